"""What an unsafe method invalidates: RFC 9111 §4.4; and groups of responses: RFC 9875."""

from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import urljoin, urlsplit

from tiercel._core import structured
from tiercel._core.entry import Head, Headers, Request
from tiercel._core.headers import lines, members
from tiercel._core.keys import group_tag, origin, uri_tag

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "QUERY", "TRACE"})
"""RFC 9110 §9.2.1, RFC 10008 §2. Whatever is not known to be safe is not."""

GROUPS_LIMIT: Final = 128
"""Groups of one response. RFC 9875 §2 asks for 32 at least."""

_NO_ERROR = range(200, 400)


def on_unsafe(request: Request, head: Head, may_store: Callable[[bytes], bool]) -> tuple[str, ...]:
    """The tags to cut after an answer: none after a safe method, nor after one that failed.

    `may_store` knows of a target whether there can be anything under it. Of what cannot be, the log need not tell.
    """
    if request.method in SAFE or head.status not in _NO_ERROR:
        return ()
    places = [request.target, *_named_places(request, head.headers)]
    tags = [uri_tag(request.scheme, request.authority, place) for place in places if may_store(place)]
    tags += _groups(request, head.headers, b"cache-group-invalidation")
    return tuple(dict.fromkeys(tags))


def group_tags(request: Request, headers: Headers) -> tuple[str, ...]:
    """The tags of the groups that a response belongs to."""
    return tuple(dict.fromkeys(_groups(request, headers, b"cache-groups")))


def _groups(request: Request, headers: Headers, name: bytes) -> list[str]:
    """A List of Strings; as RFC 9651 §4.2 has it, nothing of a field that is anything else."""
    found: list[str] = []
    for member in members(headers, name)[:GROUPS_LIMIT]:
        read = structured.item(member) if member.startswith(b'"') else None
        if read is None or not isinstance(read[0], str):
            return []
        found.append(group_tag(request.scheme, request.authority, read[0]))
    return found


def _named_places(request: Request, headers: Headers) -> Iterator[bytes]:
    """Location and Content-Location, where they are of the same origin: no other may be invalidated by it."""
    own = origin(request.scheme, request.authority)
    base = f"{request.scheme}://{request.authority.decode('latin-1')}{request.target.decode('latin-1')}"
    for value in (*lines(headers, b"location"), *lines(headers, b"content-location")):
        try:
            found = urlsplit(urljoin(base, value.decode("latin-1")))
        except ValueError:  # no URI reference: it names nothing
            continue
        if origin(found.scheme, found.netloc.encode("latin-1", "replace")) == own:
            query = f"?{found.query}" if found.query else ""
            yield (found.path + query).encode("latin-1", "replace")
