"""The compressors for what clients get. What shared stores keep is `compression`'s business."""

import importlib
import threading
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

Compressor = Callable[[bytes], bytes]
"""Makes the same of the same, in any thread."""

BROTLI: Final = 5
GZIP: Final = 6
ZSTD: Final = 3
"""Levels: of each, where more work begins to gain little."""

_WITH_GZIP_HEADER = 31  # of zlib: no name, no time in it


def compressors() -> Mapping[bytes, Compressor]:
    """By content coding: those whose packages are there. gzip always is."""
    found: dict[bytes, Compressor] = {b"gzip": _gzip}
    for coding, package, made in ((b"zstd", "zstandard", _zstd), (b"br", "brotli", _brotli)):
        try:
            found[coding] = made(importlib.import_module(package))
        except ImportError:
            continue
    return found


def _gzip(body: bytes) -> bytes:
    return zlib.compress(body, GZIP, _WITH_GZIP_HEADER)


def _zstd(zstandard: Any) -> Compressor:  # noqa: ANN401 - a module that may be absent
    # One for each thread: to make it takes longer than to use it, and it is not for several at once.
    own = threading.local()

    def compress(body: bytes) -> bytes:
        if not hasattr(own, "compressor"):
            own.compressor = zstandard.ZstdCompressor(level=ZSTD)
        compressed: bytes = own.compressor.compress(body)
        return compressed

    return compress


def _brotli(brotli: Any) -> Compressor:  # noqa: ANN401 - a module that may be absent
    def compress(body: bytes) -> bytes:
        compressed: bytes = brotli.compress(body, quality=BROTLI)
        return compressed

    return compress
