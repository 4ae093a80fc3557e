"""The memory tier: S3-FIFO weighed in bytes, with retention. One writer, no lock, no clock.

Juncheng Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023: what is new enters a small queue;
what is read more than once there moves on to the main queue, the rest leaves only its ghost; a ghost that comes back
goes straight to main, where every read buys another round.

Structures are changed by `put`, `delete`, `expire`, `clear` and `sweep` only, which belong to one thread. `get` finds a
slot and counts, so another thread may read: at worst a count is lost.

No call does more than a bounded number of steps, however many entries there are: a table of a million that grew at
once, or let go of all at once, would stop every other request for a tenth of a second.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, MutableSet
from functools import lru_cache
from heapq import heappop, heappush
from math import ceil, floor, isinf
from typing import Generic, TypeVar

from tiercel._core.shards import Numbers, Table
from tiercel._core.slots import Bucket, Queue, Slot

__all__ = ["Bucket", "Memory", "Queue", "Slot"]

V = TypeVar("V")

# What an entry costs beyond its key and value, in bytes: slot 120, its expiry 24, its share of the table 30..120 (a
# dict grows to thrice what it holds, rounded up to a power of two), and half a ghost 30..75; the number of its weight
# is shared. 181..210 while the cache fills, 281..336 when it turns over, by tracemalloc at 3,700 to 60,000 entries:
# the worst, rounded up.
OVERHEAD = 340

MOST_READS = 3
"""Reads are counted up to here: two bits, as in the paper."""

SMALL_SHARE = 10
"""The small queue is due for eviction above 1/10 of the bound."""

LARGEST_SHARE = 8
"""An entry above 1/8 of the bound is refused."""

GHOST_SHARE = 2
"""One ghost for two entries: half of what the paper keeps, half the memory, and as good on the Zipf traces tried."""

CHANCES = 1024
"""Slots spared in a row before one goes regardless, about a millisecond: else a put into a cache whose every entry
is hot would turn over all of them, three times."""

SPARED = 4 * CHANCES
"""Slots spared in one call before all the rest go regardless."""

EVICTIONS = 1024
"""Entries that go for one: what would need more room is refused. As many have gone, so that a later try may fit."""

LOOKS = 256
"""Slots that `expire` looks at by default: about half a millisecond. One put may do this and all of the others here."""

SWEPT = 128
"""Slots that `sweep` lets go of by default: a third of a millisecond. A put, or a turn of the loop, does so twice."""

ROUGHNESS = 6
"""Bits by which a bucket further ahead is wider: 1 s, 64 s, 4096 s, ..."""


class Ghosts:
    """Keys that left the small queue lately, as hashes: a collision only promotes too early."""

    __slots__ = ("hashes", "order")

    def __init__(self) -> None:
        self.hashes: MutableSet[int] = Numbers()
        self.order: deque[int] = deque()

    def add(self, key: bytes) -> None:
        ghost = hash(key)
        self.hashes.add(ghost)
        self.order.append(ghost)

    def trim(self, limit: int) -> None:
        while len(self.order) > limit:
            self.hashes.discard(self.order.popleft())


class Leaving(Generic[V]):
    """What was cleared and still takes its room: parts of tables, and ghosts, that go slot by slot."""

    __slots__ = ("_ghosts", "_parts", "weight")

    def __init__(self) -> None:
        self._parts: list[dict[bytes, Slot[V]]] = []
        self._ghosts: list[Ghosts] = []
        self.weight = 0

    def add(self, table: Table[Slot[V]], ghosts: Ghosts, weight: int) -> None:
        self._parts += filter(None, table.parts)
        self._ghosts.append(ghosts)
        self.weight += weight

    def __bool__(self) -> bool:
        return bool(self._parts or self._ghosts)

    def step(self) -> None:
        """Let go of one slot, and one ghost; with the last of a part, of that."""
        if self._ghosts:
            ghosts = self._ghosts[-1]
            if ghosts.order:
                ghosts.trim(len(ghosts.order) - 1)
            else:
                self._ghosts.pop()
        if not self._parts:
            return
        part = self._parts[-1]
        # Neighbours hold each other: unlinked, they go now and not at a full collection.
        slot = part.popitem()[1]
        slot.older = slot.newer = slot.before = slot.after = None
        self.weight -= slot.weight
        if not part:
            self._parts.pop()


class Memory(Generic[V]):
    """A cache of at most `bound` bytes.

    `on_evict` is told each key that was dropped for room or for its retention, after the call has done its work; not
    what the caller deleted, superseded or cleared.

    >>> memory: Memory[str] = Memory(1_000_000)
    >>> memory.put(b"sixteen bytes...", "value", weight=21, expiry=60.0)
    True
    >>> memory.get(b"sixteen bytes...")
    'value'
    >>> memory.expire(now=60.0), memory.get(b"sixteen bytes...")
    (1, None)
    """

    def __init__(self, bound: int, *, on_evict: Callable[[bytes], None] | None = None) -> None:
        self.bound = bound
        self.small: Queue[V] = Queue()
        self.main: Queue[V] = Queue()
        self._leaving: Leaving[V] = Leaving()
        self._second = 0
        self._on_evict = on_evict
        self._begin()

    @property
    def weight(self) -> int:
        """Bytes held, `OVERHEAD` included; never above the bound."""
        return self.small.weight + self.main.weight + self._leaving.weight

    def __len__(self) -> int:
        return len(self.table)

    def entries(self) -> Iterator[tuple[bytes, Slot[V]]]:
        """Iterate over keys and slots, in no order, while none come or go."""
        return iter(self.table.items())

    def get(self, key: bytes) -> V | None:
        """Return the value and count the read."""
        slot = self._parts[key[-1]].get(key)
        if slot is None:
            return None
        freq = slot.freq
        if freq < MOST_READS:
            slot.freq = freq + 1
        return slot.value

    def peek(self, key: bytes) -> V | None:
        """Return the value, uncounted."""
        slot = self._slot(key)
        return None if slot is None else slot.value

    def put(self, key: bytes, value: V, weight: int, expiry: float) -> bool:
        """Store, or refuse what is above 1/8 of the bound, or needs the room of more than `EVICTIONS` others.

        Either way the old value of the key is gone. `weight` is that of key and value in bytes, `expiry` the moment at
        which retention ends, `inf` for never.
        """
        weight = _one_of_equals(weight + OVERHEAD)
        slot = self._slot(key)
        if weight > self.bound // LARGEST_SHARE:
            if slot is not None:
                self._remove(slot)
            return False
        bucket = self._bucket(expiry)
        evicted: list[bytes] = []
        if slot is None:
            fits = self._make_room(weight, evicted)
            if fits:
                self._place(Slot(key, value, weight, expiry), bucket)
        else:
            fits = self._reweigh(slot, weight, evicted)
            slot.value = value
            slot.expiry = expiry
            if fits and bucket is not slot.bucket:
                slot.bucket.remove(slot)
                bucket.add(slot)
        self._report(evicted)
        return fits

    def delete(self, key: bytes) -> bool:
        """Drop it, and say whether it was there."""
        slot = self._slot(key)
        if slot is None:
            return False
        self._remove(slot)
        return True

    def expire(self, now: float, limit: int = LOOKS) -> int:
        """Drop what retention has ended for, and say how many; to be called about once a second, or while `behind`.

        An entry goes within a second of its end, or later if more than `limit` slots a call are due to be looked at.
        Each is looked at once per factor of 64 that its retention is long in seconds, however many others there are.
        """
        self._second = floor(now)
        self.behind = False
        ended: list[bytes] = []
        for _ in range(limit):
            slot = self._due(now)
            if slot is None:
                break
            if slot.expiry <= now:
                self._remove(slot)
                ended.append(slot.key)
            else:
                slot.bucket.remove(slot)
                self._bucket(slot.expiry).add(slot)
        else:
            self.behind = True
        self._report(ended)
        return len(ended)

    def clear(self) -> None:
        """Drop everything, ghosts too. Nothing is found any more; what is above `SWEPT` is let go of by `sweep`."""
        self._leaving.add(self.table, self.ghosts, self.small.weight + self.main.weight)
        for bucket in self.buckets.values():
            bucket.first = None
        self._begin()
        self.sweep()

    def sweep(self, limit: int = SWEPT) -> bool:
        """Let go of some of what was cleared, and say whether there is more. Until then it weighs, and goes first."""
        leaving = self._leaving
        for _ in range(limit):
            if not leaving:
                return False
            leaving.step()
        return bool(leaving)

    def _begin(self) -> None:
        self.small.clear()
        self.main.clear()
        self.table: Table[Slot[V]] = Table()
        self._parts = self.table.parts  # which a read finds sooner
        self.ghosts = Ghosts()
        self.behind = False
        """Whether more may be due to be looked at than the last `expire` did."""
        self.buckets: dict[float, Bucket[V]] = {}
        self._dues: list[float] = []  # a heap of the keys of `buckets`

    def _slot(self, key: bytes) -> Slot[V] | None:
        return self._parts[key[-1]].get(key)

    def _report(self, keys: list[bytes]) -> None:
        if self._on_evict is not None:
            for key in keys:
                self._on_evict(key)

    def _remove(self, slot: Slot[V]) -> None:
        slot.home.remove(slot)
        self._forget(slot)

    def _forget(self, slot: Slot[V]) -> None:
        """All of `_remove` but the queue, which the slot has left."""
        slot.bucket.remove(slot)
        self.table.remove(slot.key)
        self.ghosts.trim(len(self.table) // GHOST_SHARE)

    def _place(self, slot: Slot[V], bucket: Bucket[V]) -> None:
        self.table.add(slot.key, slot)
        bucket.add(slot)
        (self.main if hash(slot.key) in self.ghosts.hashes else self.small).push(slot)

    def _reweigh(self, slot: Slot[V], weight: int, evicted: list[bytes]) -> bool:
        """Weigh anew in place, as overwriting is not reading; to the back if others must go for what it gained."""
        home = slot.home
        gained = weight - slot.weight
        if self.weight + gained <= self.bound:
            slot.weight = weight
            home.weight += gained
            return True
        home.remove(slot)  # so that it is not its own victim
        slot.weight = weight
        if self._make_room(weight, evicted):
            home.push(slot)
            return True
        self._forget(slot)
        return False

    def _make_room(self, weight: int, evicted: list[bytes]) -> bool:
        """Evict until there is room for so much, and say whether there is: no more steps than a call may take."""
        if self._leaving and self.weight + weight > self.bound:
            self.sweep()  # before anything goes that is of use
            if self._leaving and self.weight + weight > self.bound:
                return False
        room = self.bound - weight - self._leaving.weight
        chances, spared = CHANCES, SPARED
        while self.small.weight + self.main.weight > room:
            slot = self._candidate()
            if slot is None or len(evicted) == EVICTIONS:
                return False
            slot.home.remove(slot)
            if self._spared(slot) and chances and spared:
                self.main.push(slot)
                chances -= 1
                spared -= 1
                continue
            if slot.home is self.small:
                self.ghosts.add(slot.key)
            self._forget(slot)
            evicted.append(slot.key)
            chances = CHANCES
        return True

    def _candidate(self) -> Slot[V] | None:
        if self.small.weight > self.bound // SMALL_SHARE:
            return self.small.oldest
        return self.main.oldest or self.small.oldest

    def _spared(self, slot: Slot[V]) -> bool:
        """Spend what reads have earned: promotion for more than one, or one more round in main for each."""
        freq = slot.freq
        if slot.home is self.small:
            slot.freq = 0
            return freq > 1
        slot.freq = max(freq - 1, 0)
        return freq > 0

    def _bucket(self, expiry: float) -> Bucket[V]:
        """Find or open a bucket; emptied ones stay until they are due, at most 65 for each factor of 64."""
        due = _look_at(expiry, self._second)
        bucket = self.buckets.get(due)
        if bucket is None:
            bucket = self.buckets[due] = Bucket()
            heappush(self._dues, due)
        return bucket

    def _due(self, now: float) -> Slot[V] | None:
        while self._dues and self._dues[0] <= now:
            slot = self.buckets[self._dues[0]].first
            if slot is not None:
                return slot
            del self.buckets[heappop(self._dues)]
        return None


@lru_cache(maxsize=2048)
def _one_of_equals(weight: int) -> int:
    """Of what weighs the same the number is held once."""
    return weight


def _look_at(expiry: float, second: int) -> float:
    """Choose when to look at an entry: at its end if that is near, else before, rounded so that few moments differ.

    Always after `second` for what ends after it, so each look gets nearer.
    """
    if isinf(expiry):
        return expiry
    end = ceil(expiry)
    ahead = end - second
    if ahead < 1 << ROUGHNESS:
        return end
    shift = (ahead.bit_length() - 1) // ROUGHNESS * ROUGHNESS
    return end >> shift << shift
