"""zstd for what shared stores keep, where the package is there."""

from typing import NamedTuple

from tiercel._core.codec import Compress, Decompress


class Compression(NamedTuple):
    """Both ways."""

    compress: Compress
    decompress: Decompress


def zstd() -> Compression | None:
    """None: the package zstandard is not installed."""
    try:
        import zstandard
    except ImportError:
        return None

    def decompress(data: bytes, size: int) -> bytes:
        """ValueError: it is not so many bytes, compressed; they are not even unpacked."""
        try:
            told = zstandard.get_frame_parameters(data).content_size
            if told != size:
                message = f"{told} bytes instead of {size}"
                raise ValueError(message)
            return zstandard.ZstdDecompressor().decompress(data, max_output_size=size)
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from error

    return Compression(zstandard.ZstdCompressor().compress, decompress)
