"""What clients do with encoded bodies."""

import importlib
import zlib
from typing import Any

import zstandard


def decode(coding: bytes, body: bytes) -> bytes:
    """The body as it was before it was encoded."""
    match coding:
        case b"":
            return body
        case b"gzip":
            return zlib.decompress(body, 31)
        case b"zstd":
            return zstandard.ZstdDecompressor().decompress(body)
        case b"br":
            brotli: Any = importlib.import_module("brotli")
            return bytes(brotli.decompress(body))
        case other:
            raise AssertionError(other)
