"""Exports over HTTP, and what the cache may do with them."""

from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession

from storefront.catalogue.schemas import Filters
from storefront.exports import service
from storefront.exports.response import Streamed
from storefront.parts import Parts
from storefront.reference.document import answers

CSV, NDJSON = "text/csv; charset=utf-8; header=present", "application/x-ndjson"
CSV_LINES = (
    "id,carat,cut,color,clarity,depth,table,x,y,z,price,stock,version\r\n"
    "1,0.23,Ideal,E,SI2,61.5,55.0,3.95,3.98,2.43,326,1,1\r\n"
)
JSON_LINES = (
    '{"id":1,"carat":0.23,"cut":"Ideal","color":"E","clarity":"SI2","depth":61.5,"table":55.0,'
    '"x":3.95,"y":3.98,"z":2.43,"price":326,"stock":1,"version":1}\n'
)
"""How they begin: examples for the document."""


def router(parts: Parts) -> APIRouter:
    """Build the routes of one application. Whoever asks while an export runs joins it; afterwards it is stored."""
    routes = APIRouter(prefix="/exports", tags=["exports"], dependencies=[Depends(parts.exports.turn)])
    per_request = Depends(parts.database.session)
    # What it is made of is every product: it falls with the lists.
    stored = parts.cache.response(ttl="10m", tags="products", key=_columns)

    @routes.get("/products.csv", response_class=Response, responses=_described("text/csv", CSV_LINES))
    @stored
    async def export_csv(
        filters: Annotated[Filters, Query()], session: Annotated[AsyncSession, per_request]
    ) -> Response:
        """Export the diamonds that pass the filters as CSV, RFC 4180, the first line with the names of the columns."""
        return _file(await service.as_csv(session, filters), CSV, "products.csv")

    @routes.get("/products.ndjson", response_class=Response, responses=_described(NDJSON, JSON_LINES))
    @stored
    async def export_ndjson(
        filters: Annotated[Filters, Query()], session: Annotated[AsyncSession, per_request]
    ) -> Response:
        """Export the diamonds that pass the filters as one object of JSON per line."""
        return _file(await service.as_ndjson(session, filters), NDJSON, "products.ndjson")

    return routes


def _columns(_request: Request) -> str:
    # A release with another column shares no export with this one: of a response made by hand nothing else says it.
    return ",".join(service.COLUMNS)


def _file(content: AsyncGenerator[bytes], kind: str, name: str) -> Response:
    return Streamed(content, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})


def _described(kind: str, example: str) -> dict[int | str, dict[str, Any]]:
    lines: dict[str, Any] = {kind: {"schema": {"type": "string", "examples": [example]}}}
    return {200: {"description": "The diamonds that pass, by their ids.", "content": lines}, **answers(503)}
