"""Files of products over HTTP, and what the cache may do with them."""

from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response, Security
from fastapi.responses import StreamingResponse
from sqlalchemy.ext.asyncio import AsyncSession

from storefront.accounts.identity import Identity
from storefront.catalogue.routes import ProductId
from storefront.paging import Page
from storefront.parts import Parts
from storefront.reference.document import answers
from storefront.reviews.schemas import Numbered
from storefront.uploads.kinds import Kind
from storefront.uploads.names import FileName, disposition
from storefront.uploads.schemas import FileOut
from storefront.uploads.service import Opened, Sent

FileId = Annotated[str, Path(pattern="^[0-9a-f]{24}$")]
Name = Annotated[FileName, Query(description="What the file is called; it ends as its kind does.")]

BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
BODY: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/octet-stream": BINARY}}}
CONTENT: dict[str, Any] = {kind.value: BINARY for kind in Kind}
WRITTEN = answers(408, 415)
READ: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file.", "content": CONTENT},
    206: {"description": "The bytes that Range asks for.", "content": CONTENT},
    416: {"description": "Range asks for bytes that there are not.", "content": {}},
}
FENCE = "default-src 'none'; frame-ancestors 'none'; sandbox"
"""What others have sent may load nothing, and run nothing, wherever it is opened."""


def router(parts: Parts) -> APIRouter:
    """Build the routes of one application. Everybody may read; to write needs the scope."""
    routes = APIRouter(prefix="/products/{product_id}/files", tags=["files"])
    _to_write(routes, parts)
    per_request = Depends(parts.database.session)

    async def opened(
        product_id: ProductId, file_id: FileId, session: Annotated[AsyncSession, per_request]
    ) -> AsyncGenerator[Opened]:
        """Have the file open until the last of it is sent, or whatever else becomes of the request."""
        async with parts.uploads.reading(session, product_id, file_id) as found:
            yield found

    @routes.get("")
    @parts.cache.response(ttl="5m", tags=("files:{product_id}", "product:{product_id}"))
    async def list_files(
        product_id: ProductId, which: Annotated[Numbered, Query()], session: Annotated[AsyncSession, per_request]
    ) -> Page[FileOut]:
        """List the files of a product, the newest first."""
        return await parts.uploads.page(session, product_id, which)

    # It knows nothing of ranges: the cache cuts them from the whole. Of one shape, both share an entry.
    @routes.head("/{file_id}", response_class=Response, include_in_schema=False)
    @routes.get("/{file_id}", response_class=Response, responses=READ)
    @parts.cache.response(ttl="1d", tags="file:{file_id}")
    async def read_file(
        file_id: FileId,  # noqa: ARG001 - names the tag
        found: Annotated[Opened, Depends(opened)],
    ) -> Response:
        """Read a file, or the bytes of it that Range asks for."""
        file = found.file
        headers = {
            "Content-Length": str(file.size),
            "Content-Disposition": disposition("inline" if file.kind.shown else "attachment", file.name),
            "Content-Security-Policy": FENCE,
            "Accept-Ranges": "bytes",
            "ETag": f'"{file.digest}"',
        }
        return StreamingResponse(found.content, media_type=file.kind, headers=headers)

    return routes


def _to_write(routes: APIRouter, parts: Parts) -> None:
    per_request, limited = Depends(parts.database.session), Depends(parts.limited)
    may_write = Security(parts.guard.current_user, scopes=["products:write"])

    # The body is the file. A form would be on our disk before anybody has looked who sends it: FastAPI reads it first.
    async def sent(name: Name, user: Annotated[Identity, may_write], request: Request) -> Sent:
        return Sent(user_id=user.id, name=name, content=request.stream())

    @routes.post("", status_code=201, dependencies=[limited], openapi_extra=BODY, responses=WRITTEN)
    async def add_file(
        product_id: ProductId,
        wanted: Annotated[Sent, Depends(sent)],
        session: Annotated[AsyncSession, per_request],
        request: Request,
        response: Response,
    ) -> FileOut:
        """Add a picture or a document: the body is the file, as it is."""
        added = await parts.uploads.add(session, product_id, wanted)
        response.headers["Location"] = f"{request.url.path}/{added.id}"
        return added

    @routes.put("/{file_id}", dependencies=[limited], openapi_extra=BODY, responses={**WRITTEN, **answers(409)})
    async def replace_file(
        product_id: ProductId,
        file_id: FileId,
        wanted: Annotated[Sent, Depends(sent)],
        session: Annotated[AsyncSession, per_request],
    ) -> FileOut:
        """Put another file in its place, under the same URL."""
        return await parts.uploads.replace(session, product_id, file_id, wanted)

    @routes.delete("/{file_id}", status_code=204, dependencies=[may_write])
    async def remove_file(
        product_id: ProductId, file_id: FileId, session: Annotated[AsyncSession, per_request]
    ) -> None:
        """Remove a file."""
        await parts.uploads.remove(session, product_id, file_id)
