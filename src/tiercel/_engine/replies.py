"""Sending a response: stored, still growing, or none at all."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from tiercel._core import present
from tiercel._core.entry import Entry, Head, Header
from tiercel._core.status import CacheStatus
from tiercel._engine.call import Call, after_request
from tiercel._engine.fills import IncompleteError
from tiercel._engine.flights import Reader

ENDLESS: Final = 2**63 - 1
"""Beyond the end of any body."""


async def send_stored(
    call: Call, entry: Entry, status: CacheStatus, *, passed_on: Sequence[Header] = (), first: bool = False
) -> None:
    """Send a complete response. `first`: it has been produced for this request."""
    aged = not (first and _made_here(entry))
    ready = present.reply(entry, call.request, call.engine.clock.time(), status, aged=aged)
    headers = _joined(ready.headers, passed_on)
    await call.send({"type": "http.response.start", "status": ready.status, "headers": headers})
    await call.send({"type": "http.response.body", "body": ready.body, "more_body": False})


async def send_growing(
    call: Call, reader: Reader, entry: Entry, status: CacheStatus, *, passed_on: Sequence[Header] = ()
) -> None:
    """Send a response whose body is still being produced: what the client asked of it, as it comes."""
    begun = _begun(call, entry, status)
    headers = _joined(list(begun.head.headers), passed_on)
    await call.send({"type": "http.response.start", "status": begun.head.status, "headers": headers})
    at, listening = 0, None
    try:
        while at < begun.end:
            if not reader.ready and listening is None:
                listening = call.engine.background.start(_listen(call, reader), where="listening")
            piece = await reader.read()
            if piece is None:
                break
            part = piece[max(0, begun.first - at) : begun.end - at]
            at += len(piece)
            if part:
                await call.send({"type": "http.response.body", "body": part, "more_body": True})
    finally:
        if listening is not None:
            listening.cancel()
    if reader.gone:
        return
    if at < begun.end < ENDLESS:
        raise IncompleteError("the body is shorter than the application announced")
    await call.send({"type": "http.response.body", "body": b"", "more_body": False})


class _Begun(NamedTuple):
    """The beginning of a response; `body[first:end]` of what is still being produced is to follow."""

    head: Head
    first: int
    end: int


def _begun(call: Call, entry: Entry, status: CacheStatus) -> _Begun:
    request, now = call.request, call.engine.clock.time()
    aged = not (now - entry.answered_at < 1 and _made_here(entry))
    head = Head(status=entry.status, headers=present.hit_headers(entry, now, status, aged=aged))
    if (decided := present.conditional(head, request, now)) is not None:
        return _Begun(decided, 0, 0)
    if request.method == "HEAD":
        return _Begun(head, 0, 0)
    return _Begun(*(present.slice_of(head, request, now) or (head, 0, ENDLESS)))


def _made_here(entry: Entry) -> bool:
    """RFC 9111 §5.1: Age says that a response was not made for this request. This one was, unless it had one before."""
    return entry.initial_age <= max(0.0, entry.answered_at - entry.asked_at)


async def _listen(call: Call, reader: Reader) -> None:
    """A client that hangs up while it waits is to be noticed: somebody may produce a body for nobody else."""
    message = await after_request(call.receive)
    if message["type"] == "http.disconnect":
        reader.hang_up()


async def send_refusal(call: Call, status: CacheStatus) -> None:
    """504 (Gateway Timeout), RFC 9110 §15.6.5."""
    body = b"Gateway Timeout"
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        (b"cache-status", status.render()),
    ]
    await call.send({"type": "http.response.start", "status": 504, "headers": headers})
    shown = b"" if call.request.method == "HEAD" else body
    await call.send({"type": "http.response.body", "body": shown, "more_body": False})


def _joined(headers: list[Header], passed_on: Sequence[Header]) -> list[Header]:
    """With what is not stored; the Cache-Status of caches nearer to the origin before our own: RFC 9211 §2."""
    if not passed_on:
        return headers
    ours = next(at for at, (name, _) in enumerate(headers) if name == b"cache-status")
    return [*headers[:ours], *passed_on, *headers[ours:]]
