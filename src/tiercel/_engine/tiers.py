"""Where stored responses and values are kept: the memory of this process."""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from math import inf
from types import MappingProxyType
from typing import Any, Final

from tiercel._core import freshness, keys, rfc9111
from tiercel._core.calls import Value
from tiercel._core.entry import Coded, Entry, Header
from tiercel._core.headers import is_shared
from tiercel._core.memory import LARGEST_SHARE, OVERHEAD, Memory
from tiercel._engine.fence import Fence
from tiercel._engine.stamps import Stamps, Verdict

VARIANTS = 64
"""Usable variants that are kept under one key; a newcomer to a full shelf is served, and not stored."""
ENTRY_OVERHEAD = 600
"""Bytes of an `Entry` and its shelf beyond what it carries, as tracemalloc counts them."""
HEADER_OVERHEAD = 130
"""Bytes of a header line beyond its own, and of a selecting field."""
SHARED_LINE = 8
"""Bytes of a header line that is one object in many entries."""
TAG_OVERHEAD = 57
"""Bytes of a tag beyond its own."""

_ALIKE: Final = frozenset(
    {
        b"accept-ranges",
        b"access-control-allow-credentials",
        b"access-control-allow-origin",
        b"cache-control",
        b"cdn-cache-control",
        b"content-encoding",
        b"content-language",
        b"content-security-policy",
        b"content-type",
        b"date",
        b"referrer-policy",
        b"server",
        b"strict-transport-security",
        b"vary",
        b"x-content-type-options",
        b"x-frame-options",
    }
)
"""Fields that have few values in one application, so that their lines are shared (`headers.shared`)."""


_NOT_RENDERED: Final[list[Header]] = []

PLAIN: Final[Mapping[bytes, Any]] = MappingProxyType({})
"""The faces of a response that has but one."""
_UNSEEN: Final[Mapping[bytes, Any]] = MappingProxyType({})


class Shelf:
    """The stored responses of one primary key, newest first."""

    __slots__ = (
        "entries",
        "faces",
        "made",
        "pass_until",
        "plain_until",
        "rendered",
        "rendered_at",
        "rendered_until",
        "seen",
    )

    rendered: list[Header]

    def __init__(self, entries: tuple[Entry, ...], *, seen: int, pass_until: float = 0.0) -> None:
        self.entries = entries
        self.seen = seen
        """Revision of the log at which no entry here had been cut."""
        self.pass_until = pass_until
        """Until then answers under this key are thought not to be storable: nobody waits for another's fill."""
        self.refit()

    def refit(self) -> None:
        """Bring what follows from the entries in line with them."""
        self.plain_until = rfc9111.plain_until(self.entries[0]) if len(self.entries) == 1 else 0.0
        """Until then a plain request is answered by the only entry, without a decision."""
        self.rendered = _NOT_RENDERED
        """The fields of a hit by the only entry, from `rendered_at` until `rendered_until`."""
        self.rendered_at = self.rendered_until = 0.0
        self.faces = _UNSEEN
        """The only entry as clients of other content codings see it, by coding (`encoder.Face`)."""
        self.made: Any = None
        """What a server has made of the entries. It is let go of when they are, and that is how the server knows."""


class Tiers:
    """Looks up and stores.

    Reads take no lock. What changes the structure is serialised: memoised functions are called from threads, too.
    """

    def __init__(self, bound: int, stamps: Stamps) -> None:
        self.memory: Memory[Shelf | Value] = Memory(bound)
        self.limit = bound // LARGEST_SHARE
        """Bytes of the largest body that may be stored."""
        self.fence: Fence | None = None
        """Where others cut, too."""
        self._stamps = stamps
        self._changing = threading.Lock()
        self._expired = 0.0

    def shelf(self, key: bytes) -> Shelf | None:
        """What is stored under a primary key and has not been cut."""
        shelf = self.memory.get(key)
        if not isinstance(shelf, Shelf):
            return None
        if self.fence is not None and not self.fence.current():
            return self._young(key, shelf, self.fence)
        if shelf.seen != self._stamps.revision:
            return self._sifted(key, shelf)
        return shelf

    def store(self, key: bytes, entry: Entry, now: float, *, since: float = -inf) -> str:
        """Shelve a response whose production began at `since` (monotonic); empty, or the reason why not.

        What else is usable stays, also where this does not fit.
        """
        seen = self._stamps.revision
        judged = self._judged(key, entry)
        if judged is None:
            return "invalidated"
        shelf = self.shelf(key)
        stored = shelf.entries if shelf else ()
        if judged.partial is not None:
            judged = rfc9111.combine(stored, judged)
        admitted = keys.admit(stored, judged, now, VARIANTS)
        if admitted is None:
            return "variants-full"
        if not self._put(key, Shelf(admitted, seen=seen), now):
            if stored and self.memory.peek(key) is None:  # too many others would have had to go
                self._put(key, Shelf(stored, seen=seen), now)
            return "too-large"
        if self.fence is not None:
            self.fence.note(key, _identity(entry), since)
        return ""

    def adopt(self, key: bytes, entry: Entry, now: float, *, soft: bool, since: float) -> Entry:
        """Shelve what was asked for in the store at `since`, unless there is a younger one here; as it may be used."""
        entry = _made_stale(entry) if soft else entry
        shelf = self.shelf(key)
        mine = [kept for kept in shelf.entries if kept.selecting == entry.selecting] if shelf else []
        if not any(kept.method == entry.method and kept.answered_at > entry.answered_at for kept in mine):
            self.store(key, entry, now, since=since)
        return entry

    def holds(self, key: bytes, entry: Entry) -> bool:
        """Whether the body of a response is in memory."""
        shelf = self.memory.peek(key)
        return isinstance(shelf, Shelf) and any(kept.body is entry.body for kept in shelf.entries)

    def encode(self, key: bytes, entry: Entry, form: Coded, now: float) -> bool:
        """Keep what was made of the body of a response, if that is still there; whether there was room for it."""
        shelf = self.memory.peek(key)
        if not isinstance(shelf, Shelf):
            return True
        # What is cut meanwhile is cut with all that was made of it: nothing here looks at the log.
        entries = tuple([_with(kept, form) if kept.body is entry.body else kept for kept in shelf.entries])
        if entries == shelf.entries:
            return True
        if not self._put(key, shelf, now, entries):
            if self.memory.peek(key) is None:  # too many others would have had to go
                self._put(key, shelf, now)
            return False
        shelf.entries = entries  # what follows from them is as it was
        return True

    def drop(self, key: bytes, entry: Entry) -> None:
        """Take one response off its shelf."""
        shelf = self.shelf(key)
        if shelf is None:
            return
        # Not by identity: a soft cut makes another object of it.
        shelf.entries = tuple([kept for kept in shelf.entries if _identity(kept) != _identity(entry)])
        shelf.refit()
        if not shelf.entries:
            with self._changing:
                self.memory.delete(key)

    def mark(self, key: bytes, *, until: float, now: float) -> None:
        """Note that answers under this key are not storable for now (a hit-for-miss marker)."""
        shelf = self.shelf(key)
        if shelf is None:
            self._put(key, Shelf((), seen=self._stamps.revision, pass_until=until), now)
        else:
            shelf.pass_until = until

    def value(self, key: bytes) -> tuple[Value, bool] | None:
        """A stored value that has not been cut, and whether it was cut softly."""
        value = self.memory.get(key)
        if not isinstance(value, Value):
            return None
        if self.fence is not None and not self.fence.current() and self.fence.young(key) != value.made_at:
            return None
        if value.born >= self._stamps.newest:
            return value, False
        verdict = self._stamps.verdict((*value.tags, key_tag(key)), value.born)
        return None if verdict is Verdict.CUT else (value, verdict is Verdict.SOFT)

    def store_value(self, key: bytes, value: Value, *, weight: int, now: float, since: float = -inf) -> bool:
        """Keep a value, unless it has been cut since its production began (`since`, monotonic); whether it is kept."""
        with self._changing:
            self._expire(now)
            if self._stamps.verdict((*value.tags, key_tag(key)), value.born) is Verdict.CUT:
                return False
            if self.fence is not None:
                self.fence.note(key, value.made_at, since)
            return self.memory.put(key, value, rounded(weight), value.retain_until)

    def lend(self, share: int) -> int:
        """Take a share of the bound for something else; in bytes."""
        lent = self.memory.bound // share
        self.memory.bound -= lent
        self.limit = min(self.limit, self.memory.bound // LARGEST_SHARE)
        return lent

    def clear(self) -> None:
        with self._changing:
            self.memory.clear()

    def sweep(self) -> bool:
        """Give some bytes of what was cleared back; whether there are more."""
        with self._changing:
            return self.memory.sweep()

    def usable(self, key: bytes, entry: Entry) -> bool:
        """Whether no invalidation has hit a response since its production began, but softly."""
        if entry.born >= self._stamps.newest:
            return True
        return self._stamps.verdict((*entry.tags, key_tag(key)), entry.born) is not Verdict.CUT

    def _judged(self, key: bytes, entry: Entry) -> Entry | None:
        """The response as the log leaves it."""
        if entry.born >= self._stamps.newest:
            return entry
        match self._stamps.verdict((*entry.tags, key_tag(key)), entry.born):
            case Verdict.USABLE:
                return entry
            case Verdict.SOFT:
                return _made_stale(entry)
            case Verdict.CUT:
                return None

    def _young(self, key: bytes, shelf: Shelf, fence: Fence) -> Shelf | None:
        """What may be used of a shelf of which nobody knows what others have cut."""
        seen, mark = self._stamps.revision, fence.young(key)
        young = [self._judged(key, entry) for entry in shelf.entries if _identity(entry) == mark]
        kept = tuple([entry for entry in young if entry is not None])
        return Shelf(kept, seen=seen) if kept else None

    def _sifted(self, key: bytes, shelf: Shelf) -> Shelf | None:
        """The shelf without what was cut since it was last looked at."""
        seen = self._stamps.revision
        kept = tuple([judged for entry in shelf.entries if (judged := self._judged(key, entry)) is not None])
        if not kept and shelf.entries:
            with self._changing:
                self.memory.delete(key)
            return None
        if kept != shelf.entries:
            shelf.entries = kept
            shelf.refit()
        shelf.seen = seen
        return shelf

    def _expire(self, now: float) -> None:
        """About once a second, or while there is more to be done; and at once where the clock was set back."""
        if self.memory.behind or not 0.0 <= now - self._expired < 1.0:
            self._expired = now
            self.memory.expire(now)
            self.memory.sweep()

    def _put(self, key: bytes, shelf: Shelf, now: float, entries: tuple[Entry, ...] | None = None) -> bool:
        """Put a shelf into memory; with other `entries` than it has, where they are to be changed if they fit."""
        entries = shelf.entries if entries is None else entries
        weight = rounded(len(key) + sum([weigh(entry) for entry in entries]))
        if weight + OVERHEAD > self.memory.bound // LARGEST_SHARE:
            return False  # `Memory.put` would drop what is there
        expiry = max([freshness.retain_until(entry) for entry in entries], default=shelf.pass_until)
        with self._changing:
            self._expire(now)
            before = self.memory.peek(key)
            if isinstance(before, Shelf):
                before.made = None  # whoever still holds it must not keep that
            return self.memory.put(key, shelf, weight, expiry)


@lru_cache(maxsize=1024)
def key_tag(key: bytes) -> str:
    """The synthetic tag of a single key."""
    return f"k:{key.hex()}"


def weigh(entry: Entry) -> int:
    """Bytes that a stored response takes: body, head, tags, and what Python adds."""
    head = sum([_line(name, value) for name, value in entry.headers])
    selecting = sum([HEADER_OVERHEAD + len(name) + len(digest or b"") for name, digest in entry.selecting])
    # A form in use has fields of its own: about as many.
    forms = sum([len(form.body) + head + ENTRY_OVERHEAD for form in entry.coded if form.body is not None])
    return len(entry.body) + head + selecting + weigh_tags(entry.tags) + ENTRY_OVERHEAD + forms


def weigh_tags(tags: Iterable[str]) -> int:
    """Bytes that tags take."""
    return sum([len(tag) + TAG_OVERHEAD for tag in tags])


def _line(name: bytes, value: bytes) -> int:
    if name in _ALIKE and is_shared((name, value)):
        return SHARED_LINE
    return len(name) + len(value) + HEADER_OVERHEAD


def rounded(weight: int) -> int:
    """In steps of Python's allocator, so that weights are often equal."""
    return -(-weight // 16) * 16


def _with(entry: Entry, form: Coded) -> Entry:
    """With one more form, or one anew."""
    return replace(entry, coded=(*[kept for kept in entry.coded if kept.coding != form.coding], form))


def _identity(entry: Entry) -> tuple[object, ...]:
    return entry.method, entry.selecting, entry.partial, entry.born, entry.answered_at


def _made_stale(entry: Entry) -> Entry:
    """A softly cut response: stale from the start, and served while it is renewed, while it would have been fresh."""
    if entry.lifetime == 0.0:
        return entry
    return replace(
        entry,
        lifetime=0.0,
        stale_while_revalidate=entry.lifetime + entry.stale_while_revalidate,
        stale_if_error=entry.lifetime + entry.stale_if_error,
    )
