"""Validating a stored response, and freshening it: RFC 9111 §3.2, §4.3."""

from dataclasses import replace

from tiercel._core.conditions import SUCCESSFUL, same_weak
from tiercel._core.entry import Entry, Head, Header, Headers, Request
from tiercel._core.headers import combined, end_to_end, lines, without
from tiercel._core.keys import selecting
from tiercel._core.storing import Asked, Terms, read, refusal, selecting_names, storable, terms, undressed
from tiercel._core.unsafe import group_tags

_OK = 200
_VALIDATORS = frozenset({b"etag", b"last-modified"})
# §3.2: never updated, because they describe the bytes that are stored, or one exchange.
_NOT_UPDATED = frozenset(
    {b"age", b"cache-status", b"content-encoding", b"content-length", b"content-range", b"set-cookie"}
)


def conditions_for(entry: Entry) -> list[Header]:
    """RFC 9110 §13.2.1: only a 2xx can be conditional."""
    if entry.status not in SUCCESSFUL:
        return []
    etags, modified = lines(entry.headers, b"etag"), lines(entry.headers, b"last-modified")
    conditions = [(b"if-none-match", etags[0])] if len(etags) == 1 else []
    if len(modified) == 1:
        conditions.append((b"if-modified-since", modified[0]))
    return conditions


def same_representation(head: Head, entry: Entry) -> bool:
    """RFC 9111 §4.3.4. A 304 without validators answers the only one that was sent."""
    etag, known = combined(head.headers, b"etag"), combined(entry.headers, b"etag")
    if etag is not None:
        return same_weak(etag, known) if etag.startswith(b"W/") else etag == known
    modified, known = combined(head.headers, b"last-modified"), combined(entry.headers, b"last-modified")
    return modified is None or known is None or modified == known


def confirms(request: Request, head: Head, entry: Entry) -> bool:
    """RFC 9111 §4.3.5: a HEAD whose validators, at least one, and length are those of a stored GET."""
    if request.method != "HEAD" or head.status != _OK or entry.method != "GET" or entry.status != _OK:
        return False
    names = [name for name, _ in head.headers if name in _VALIDATORS]
    same = all(combined(head.headers, name) == combined(entry.headers, name) for name in names)
    lengths = lines(head.headers, b"content-length")
    return bool(names) and same and all(length == b"%d" % len(entry.body) for length in lengths)


def renewed(asked: Asked, entry: Entry, head: Head, now: float) -> Entry:
    """The stored response under the fields of the new answer."""
    age = [line for line in head.headers if line[0] == b"age"]
    together = Head(status=entry.status, headers=_updated(undressed(asked, entry), head.headers) + age)
    said = read(together, asked.rules)
    found = terms(asked, said, now) if refusal(asked, said) is None else None
    if not isinstance(found, Terms):
        # It answers this request, for the application has just confirmed it; but no other one unasked.
        found = Terms(0.0, 0.0, 0.0, 0.0, must_revalidate=True, must_validate=True)
    # What a 200 with these fields would not be allowed to leave in store, a 304 is not either.
    new = read(Head(status=entry.status, headers=head.headers), asked.rules)
    kept = storable(asked, new) if refusal(asked, new) is None else []
    # Of what is stored all selects that is to: the Vary that it leaves us with has more names (`present.varying`).
    names = selecting_names(asked, head.headers) | {name for name, _ in entry.selecting}
    return replace(
        entry,
        headers=_updated(entry.headers, kept),
        selecting=selecting(names, asked.request.headers),
        tags=tuple(dict.fromkeys((*entry.tags, *group_tags(asked.request, head.headers)))),
        born=asked.born,
        asked_at=asked.asked_at,
        answered_at=now,
        **found._asdict(),
    )


def _updated(headers: Headers, new: Headers) -> list[Header]:
    """RFC 9111 §3.2. Without a Date of its own the new answer is of now: the old one would age it."""
    update = without(end_to_end(new), _NOT_UPDATED)
    return [*without(headers, {b"date"} | {name for name, _ in update}), *update]
