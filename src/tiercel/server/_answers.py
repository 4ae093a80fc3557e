"""Answers that are kept as bytes beside what is stored, by the bytes of the request."""

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from tiercel._core import present
from tiercel._core.entry import Entry, Header
from tiercel._core.memory import MOST_READS
from tiercel._core.plan import Target
from tiercel._engine.engine import Engine
from tiercel._engine.ready import Ready, count
from tiercel._engine.tiers import Shelf
from tiercel.server._wire import Pieces, Wire, joined, lines, opening

LONGEST: Final = 1024
"""Bytes of a head, and of the fields of an answer; where they are longer, it is worked out each time."""
SMALL: Final = 4096
"""Bytes of a body that is kept joined with its fields, too: to join 3 KB that have left the processor's caches takes
longer than to send them."""
_ADDED: Final = 1024
"""What Python adds to the bytes of an answer, at the most, as tracemalloc counts it."""
_MOMENT: Final = 256
"""What tells the age of an answer, and frames it, at the most."""


class Kept:
    """An answer whose body is the stored one. Its fields tell the age: they are others once a second."""

    __slots__ = (
        "body",
        "end",
        "good_until",
        "lines_kept",
        "opening",
        "seen",
        "status",
        "stored",
        "tail",
        "target",
        "text",
        "unread",
        "until",
        "weight",
        "whole",
    )

    def __init__(self, target: Target, ready: Ready, answer: Wire) -> None:
        self.status, self.text, self.end, self.body, self.tail = answer
        self.lines_kept = len(self.text) - len(lines(ready.headers[-2:]) or b"")
        """How much of `text` does not tell the age."""
        self.target = target
        self.stored: Entry = ready.stored
        self.good_until = ready.until
        """When it is to be decided again."""
        self.until = 0.0
        """When `text` is another."""
        self.seen = -1
        """The revision of the log at which the stored response had not been cut."""
        self.unread = 0
        """Reads that eviction is told of one by one: it counts no more of them."""
        self.opening: bytes | None = None
        """What `whole` begins with, while the rest of that holds."""
        self.whole = b""
        fields = self.lines_kept + _MOMENT
        self.weight = _ADDED + fields + (fields + len(self.body) if len(self.body) <= SMALL else 0)
        """Bytes that it takes at the most, but for the head that it answers, what the server says first, and the body
        that is stored."""

    def tell(self, now: float) -> None:
        """Have it tell the age of now."""
        moment = lines(present.moment(self.stored, now)) or b""
        self.text = b"".join((self.text[: self.lines_kept], moment, self.end))
        self.until = min(present.moment_until(self.stored, now), self.good_until)
        self.opening = None

    def opens(self, size: int) -> None:
        """What the server says first is so long. It is kept twice: as it was said last, and in `whole`."""
        if len(self.body) <= SMALL:
            self.weight += 2 * size

    def after(self, opening: bytes) -> Pieces:
        """All of it, after what the server says first."""
        if len(self.body) > SMALL:
            return joined(opening, self.text, self.body, self.tail)
        self.opening, self.whole = opening, b"".join((opening, self.text, self.body, self.tail))
        return self.whole


class _Tie:
    """Lies on a shelf. When what is stored there goes, it goes, and what was made of that with it."""

    __slots__ = ("_answers", "heads")

    def __init__(self, answers: "Answers") -> None:
        self._answers = answers
        self.heads: set[bytes] = set()

    def __del__(self) -> None:
        for head in self.heads:
            self._answers.let_go(head)

    def is_of(self, answers: "Answers") -> bool:
        return self._answers is answers


class Answers:
    """As many as there is room for, in bytes; those that have not been asked for lately go first.

    What is kept for it holds nothing that was evicted, invalidated or replaced.
    """

    def __init__(self, engine: Engine, room: int, current: Callable[[], object]) -> None:
        self._engine, self._tiers, self._stamps = engine, engine.tiers, engine.stamps
        self._room, self._taken = room, 0
        self._freed = deque[int]()
        """Of what has been let go, maybe in other threads: taken off before more is kept."""
        self._current = current
        """Whether requests are still looked up where they were; told before anything is answered."""
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()
        self._latest = 0.0
        self._defaults: Sequence[Header] = ()
        self._openings: dict[int, bytes] = {}

    def get(self, head: bytes, defaults: Sequence[Header]) -> Pieces | None:
        """The answer to a request, counted; None where there is none that may be given now."""
        kept = self._kept.get(head)
        if kept is None or not self._current():
            return None
        now, fence = self._engine.clock.time(), self._tiers.fence
        if now < self._latest:
            self._set_back()
        self._latest = now
        as_it_was = now < kept.until and kept.seen == self._stamps.revision and (fence is None or fence.current())
        if not as_it_was and not self._renewed(head, kept, now):
            return None
        first = self._openings.get(kept.status) if defaults is self._defaults else None
        if first is None and (first := self.opening(kept.status, defaults)) is None:
            return None
        if kept.unread:
            kept.unread -= 1
            self._tiers.memory.get(kept.target.primary)
        count(self._engine, kept.target)
        return kept.whole if kept.opening is first else kept.after(first)

    def opening(self, status: int, defaults: Sequence[Header]) -> bytes | None:
        """The status line, and the fields that the server adds, which change once a second."""
        if defaults is not self._defaults:
            self._defaults = defaults
            self._openings.clear()
        found = self._openings.get(status)
        if found is None and (found := opening(status, defaults)) is not None:
            self._openings[status] = found
        return found

    def keep(self, head: bytes, kept: Kept, shelf: Shelf) -> None:
        """Keep one, while there is what it was made of."""
        kept.opens(len(self._openings.get(kept.status, b"")))
        weight = len(head) + kept.weight
        if weight > self._room or max(len(head), kept.lines_kept) > LONGEST or not _is_on(shelf, kept):
            return
        shelf.made = shelf.made or _Tie(self)
        if not shelf.made.is_of(self):  # but of another server of the same application
            return
        self.let_go(head)
        self._make_room(weight)
        shelf.made.heads.add(head)
        self._kept[head] = kept
        self._taken += weight

    def let_go(self, head: bytes) -> Kept | None:
        """Keep this one no longer; from any thread."""
        kept = self._kept.pop(head, None)
        if kept is not None:
            self._went(head, kept)
        return kept

    def _went(self, head: bytes, kept: Kept) -> None:
        self._freed.append(len(head) + kept.weight)

    def clear(self) -> None:
        """Keep none of them."""
        for head in tuple(self._kept):
            self.let_go(head)

    def _renewed(self, head: bytes, kept: Kept, now: float) -> bool:
        """Have it tell the age of now; whether it is still the answer."""
        seen = self._stamps.revision  # before the shelf is asked: what is cut meanwhile is seen next time
        shelf = self._tiers.shelf(kept.target.primary)
        if shelf is None or now >= kept.good_until or not _is_on(shelf, kept):
            self._drop(head)
            return False
        if now >= kept.until:
            kept.tell(now)
            kept.unread = MOST_READS - 1
            with suppress(KeyError):  # it was let go meanwhile
                self._kept.move_to_end(head)
        kept.seen = seen
        return True

    def _make_room(self, weight: int) -> None:
        self._settle()
        while self._kept and self._taken + weight > self._room:
            with suppress(KeyError):  # the last one was let go meanwhile
                head, kept = self._kept.popitem(last=False)  # in one step: others let go of some between any two
                self._went(head, kept)
                self._leave(head, kept)
            self._settle()

    def _settle(self) -> None:
        while self._freed:
            self._taken -= self._freed.popleft()

    def _drop(self, head: bytes) -> None:
        kept = self.let_go(head)
        if kept is not None:
            self._leave(head, kept)

    def _leave(self, head: bytes, kept: Kept) -> None:
        """The shelf is to know nothing of it any more."""
        shelf = self._tiers.memory.peek(kept.target.primary)
        if isinstance(shelf, Shelf) and shelf.made is not None:
            shelf.made.heads.discard(head)

    def _set_back(self) -> None:
        """The clock has been set back: what tells an age tells a wrong one."""
        for kept in tuple(self._kept.values()):
            kept.until = 0.0


def _is_on(shelf: Shelf, kept: Kept) -> bool:
    """Whether that is what is stored."""
    return any(entry is kept.stored for entry in shelf.entries)
