"""What the shop exports."""

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncResult, AsyncSession

from storefront.catalogue import queries
from storefront.catalogue.schemas import Filters, ProductOut
from storefront.errors import Busy
from storefront.exports.formats import csv_lines, json_lines

AT_ONCE = 500
"""Rows that are in memory: some tens of kilobytes."""

COLUMNS = tuple(ProductOut.model_fields)


class Exports:
    """The exports of one application, `at_once` at the same time.

    An export has a connection until its last row is read, and where it is too large for the cache, that is when its
    client has read it; so it is, too, where the request has an `Authorization`. Without a bound, a few slow ones would
    take all connections; and without an end, which the response has, all turns.
    """

    def __init__(self, *, at_once: int) -> None:
        self._free = at_once

    async def turn(self) -> AsyncGenerator[None]:
        """Be one of those that run now, or raise `Busy`: a dependency, which ends however its request does."""
        if not self._free:
            raise Busy("too many exports are running: try again")
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


async def as_csv(session: AsyncSession, filters: Filters) -> AsyncGenerator[bytes]:
    """Begin to read the diamonds that pass; then give them as CSV with a header."""
    return written(await _begun(session, filters), csv_lines, csv_lines([COLUMNS]))


async def as_ndjson(session: AsyncSession, filters: Filters) -> AsyncGenerator[bytes]:
    """Begin to read the diamonds that pass; then give them as one object of JSON per line."""

    def lines(rows: Sequence[Sequence[Any]]) -> bytes:
        return json_lines(COLUMNS, rows)

    return written(await _begun(session, filters), lines)


async def _begun(session: AsyncSession, filters: Filters) -> AsyncResult[*tuple[Any, ...]]:
    return await queries.streamed(session, filters, COLUMNS, AT_ONCE)


async def written(
    rows: AsyncResult[*tuple[Any, ...]], lines: Callable[[Sequence[Sequence[Any]]], bytes], header: bytes = b""
) -> AsyncGenerator[bytes]:
    """Write rows as they come. Whoever stops in their midst closes this, and with it the cursor.

    A connection of SQLite that went back with an open one would show its next user what was true when that began.
    """
    try:
        if header:
            yield header
        async for some in rows.partitions():
            yield lines(some)
    finally:
        await rows.close()
