"""The directory that files lie in. A name there is made by us, and what it names is complete and never changes."""

import os
import re
from asyncio import timeout
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

from anyio.to_thread import run_sync

from storefront.errors import TooSlow
from storefront.uploads.kinds import HEAD, Kind, kind_of

CHUNK = 64 * 1024
"""Bytes that are read at once."""

OURS = re.compile(r"[0-9a-f]{32}(\.part)?")
"""How files are named here. What else may be in the directory is none of our business."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A file that has come in whole: under which name it lies here, and what its bytes say."""

    key: str
    kind: Kind
    size: int
    digest: str


class Shelf:
    """Files, all in one directory, which is made with the first of them. Several hosts need one that they share.

    `patience` is how long a file may take to come in.
    """

    def __init__(self, place: Path, *, patience: timedelta) -> None:
        self._place = place
        self._patience = patience.total_seconds()

    @asynccontextmanager
    async def receiving(self, content: AsyncIterable[bytes]) -> AsyncGenerator[Blob]:
        """Write a file as it comes in, and have it here while this is entered; if that fails nothing is left of it.

        Of its bytes one chunk is in memory, and about `HEAD` of them until its kind is known. Raises `UnfitFile`,
        `TooSlow`.
        """
        # Not in a thread: who is cancelled while it waits for that would not know what to remove.
        growing = _Growing(self._place)
        try:
            async with timeout(self._patience):
                kind = await _fill(growing, content)
            await run_sync(growing.settle)
        except TimeoutError:
            growing.discard()
            raise TooSlow(f"an upload takes at most {self._patience:.0f} s") from None
        except BaseException:
            growing.discard()
            raise
        try:
            yield Blob(key=growing.key, kind=kind, size=growing.size, digest=growing.digest)
        except BaseException:
            growing.discard()
            raise

    async def open(self, key: str) -> BinaryIO:
        """Open a file, or raise `FileNotFoundError`. Who has it open can read all of it, also when it is removed."""
        return await run_sync(_opened, self._place / key)

    async def remove(self, keys: Collection[str]) -> None:
        """Remove files; those that are not here are no matter."""
        for key in keys:
            await run_sync(_removed, self._place / key)

    async def unchanged_since(self, moment: float) -> set[str]:
        """Name all that was written before this (seconds of the clock), also what was never finished."""
        return await run_sync(self._older, moment)

    async def lacks(self, keys: Collection[str]) -> set[str]:
        """Name those of the keys under which there is nothing."""
        return await run_sync(self._absent, keys)

    def _older(self, moment: float) -> set[str]:
        if not self._place.exists():
            return set()
        with os.scandir(self._place) as found:
            return {each.name for each in found if OURS.fullmatch(each.name) and each.stat().st_mtime < moment}

    def _absent(self, keys: Collection[str]) -> set[str]:
        return {key for key in keys if not (self._place / key).exists()}


class _Growing:
    """A file as it comes in. Its last name is given to it when all of it is on the disk."""

    def __init__(self, place: Path) -> None:
        place.mkdir(parents=True, exist_ok=True)
        self.key = token_hex(16)
        self.size = 0
        self._path = place / self.key
        self._part = place / f"{self.key}.part"
        self._digest = sha256()
        self._file = self._part.open("xb")

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    def write(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._digest.update(chunk)
        self.size += len(chunk)

    def settle(self) -> None:
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
        self._part.rename(self._path)
        # The name, too, is on the disk before any row says it.
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def discard(self) -> None:
        self._file.close()
        self._part.unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)


async def pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    """Read a file, piece by piece."""
    while piece := await run_sync(file.read, CHUNK):
        yield piece


async def _fill(growing: _Growing, content: AsyncIterable[bytes]) -> Kind:
    head, kind = b"", None
    async for chunk in content:
        if kind is None:
            head += chunk
            if len(head) >= HEAD:
                kind = kind_of(head)
        await run_sync(growing.write, chunk)
    return kind or kind_of(head)


def _opened(path: Path) -> BinaryIO:
    return path.open("rb")


def _removed(path: Path) -> None:
    path.unlink(missing_ok=True)
