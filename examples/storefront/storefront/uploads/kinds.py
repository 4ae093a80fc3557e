"""The kinds of file that are taken, told by their first bytes and by nothing that the client says."""

from collections.abc import Mapping
from enum import StrEnum

import puremagic

from storefront.errors import UnfitFile

HEAD = 4096
"""Bytes that tell a kind."""


class Kind(StrEnum):
    """A media type. None of them is a page: HTML and SVG run the scripts of whoever sent them."""

    PNG = "image/png"
    JPEG = "image/jpeg"
    GIF = "image/gif"
    WEBP = "image/webp"
    PDF = "application/pdf"

    @property
    def shown(self) -> bool:
        """Whether a browser may show it where it was asked for. A document can have scripts of its own: it is saved."""
        return self is not Kind.PDF


SUFFIXES: Mapping[Kind, tuple[str, ...]] = {
    Kind.PNG: (".png",),
    Kind.JPEG: (".jpg", ".jpeg"),
    Kind.GIF: (".gif",),
    Kind.WEBP: (".webp",),
    Kind.PDF: (".pdf",),
}
"""How the names of such files end; the first is what we add."""


def kind_of(head: bytes) -> Kind:
    """Tell the kind of a file that begins like this, or raise `UnfitFile`."""
    try:
        return Kind(puremagic.from_string(head[:HEAD], mime=True))  # pyright: ignore[reportUnknownMemberType]
    except (puremagic.PureError, ValueError):
        raise UnfitFile(f"a file is one of these, by its first bytes: {', '.join(Kind)}") from None
