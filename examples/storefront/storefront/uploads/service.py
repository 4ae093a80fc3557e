"""What the shop does with files of products.

The order of things: bytes are on the disk before a row names them, and a row is gone before its bytes are. So whenever
a process dies there may be bytes without a row, which `storefront.uploads.tidy` removes, and never a row without bytes.
"""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from storefront.catalogue import service as catalogue
from storefront.errors import Conflict, NotFound
from storefront.paging import Page
from storefront.reviews.schemas import Numbered
from storefront.uploads import queries
from storefront.uploads.models import ID_BYTES, Upload
from storefront.uploads.names import ending_as
from storefront.uploads.schemas import FileOut
from storefront.uploads.shelf import Blob, Shelf, pieces
from tiercel import Cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A file as it comes in: by whom, and what they call it."""

    user_id: int
    name: str
    content: AsyncIterable[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A file that is being read."""

    file: FileOut
    content: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploads:
    """The files of one application."""

    cache: Cache
    shelf: Shelf

    async def add(self, session: AsyncSession, product_id: int, sent: Sent) -> FileOut:
        """Add a file to a product, or raise `NotFound`, `UnfitFile`, `TooSlow`."""
        await catalogue.product(session, product_id)
        await session.close()  # while the file comes in, others have the connection
        async with self.shelf.receiving(sent.content) as blob:
            made = Upload(id=token_hex(ID_BYTES), product_id=product_id, **_values(sent, blob))
            session.add(made)
            try:
                await session.flush()
            except IntegrityError:
                raise NotFound(f"there is no product {product_id}") from None
        await self._commit(session, made)
        return FileOut.model_validate(made)

    async def replace(self, session: AsyncSession, product_id: int, file_id: str, sent: Sent) -> FileOut:
        """Let a file have other bytes, or raise as `add`; `Conflict` where somebody else was faster."""
        old = (await self._found(session, product_id, file_id)).blob
        await session.close()
        async with self.shelf.receiving(sent.content) as blob:
            changed = await queries.replace(session, file_id, old, _values(sent, blob))
            if changed is None:
                raise Conflict("this file was replaced or removed while yours came in")
        await self._commit(session, changed)
        await self.shelf.remove([old])
        return FileOut.model_validate(changed)

    async def remove(self, session: AsyncSession, product_id: int, file_id: str) -> None:
        """Remove a file, or raise `NotFound`."""
        blob = await queries.remove(session, product_id, file_id)
        if blob is None:
            raise _no_such(product_id, file_id)
        async with self.cache.mutation(f"files:{product_id}", f"file:{file_id}"):
            await session.commit()
        await self.shelf.remove([blob])

    async def page(self, session: AsyncSession, product_id: int, which: Numbered) -> Page[FileOut]:
        """Show some files of a product, the newest first, or raise `NotFound`."""
        await catalogue.product(session, product_id)
        found = await queries.of_product(session, product_id, (which.page - 1) * which.limit, which.limit)
        items = [FileOut.model_validate(each) for each in found]
        return Page(items=items, next=None, total=await queries.count(session, product_id))

    @asynccontextmanager
    async def reading(self, session: AsyncSession, product_id: int, file_id: str) -> AsyncGenerator[Opened]:
        """Open a file, or raise `NotFound`. While it is read, others have the connection."""
        found = await self._found(session, product_id, file_id)
        await session.close()
        try:
            file = await self.shelf.open(found.blob)
        except FileNotFoundError:
            # Replaced or removed since we have read the row: it says something else now. If it does not, that is a 500.
            found = await self._found(session, product_id, file_id)
            await session.close()
            file = await self.shelf.open(found.blob)
        with file:
            yield Opened(file=FileOut.model_validate(found), content=pieces(file))

    async def _found(self, session: AsyncSession, product_id: int, file_id: str) -> Upload:
        found = await queries.upload(session, product_id, file_id)
        if found is None:
            raise _no_such(product_id, file_id)
        return found

    async def _commit(self, session: AsyncSession, changed: Upload) -> None:
        # Whatever this raises it may be committed: so its bytes stay, and `tidy` looks who speaks of them.
        async with self.cache.mutation(f"files:{changed.product_id}", f"file:{changed.id}"):
            await session.commit()


def _values(sent: Sent, blob: Blob) -> dict[str, Any]:
    told = asdict(blob)
    key = told.pop("key")
    return {
        **told,
        "blob": key,
        "user_id": sent.user_id,
        "name": ending_as(sent.name, blob.kind),
        "uploaded_at": datetime.now(UTC),
    }


def _no_such(product_id: int, file_id: str) -> NotFound:
    return NotFound(f"product {product_id} has no file {file_id}")
