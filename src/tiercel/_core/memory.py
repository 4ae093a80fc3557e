"""The memory tier: S3-FIFO weighed in bytes, with retention. One writer, no lock, no clock.

Juncheng Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023: what is new enters a small queue;
what is read more than once there moves on to the main queue, the rest leaves only its ghost; a ghost that comes back
goes straight to main, where every read buys another round.

Structures are changed by `put`, `delete`, `expire` and `clear` only, which belong to one thread. `get` finds a slot and
counts, so another thread may read: at worst a count is lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from math import ceil, floor, isinf
from typing import Generic, TypeVar

V = TypeVar("V")

# What an entry costs beyond its key and value, in bytes: slot 120, its weight 28, its expiry 24, its share of the table
# 30..120 (a dict grows to thrice what it holds, rounded up to a power of two), and half a ghost 30..75. 203..231 while
# the cache fills, 290..366 when it turns over, by tracemalloc at 10,000 to 175,000 entries: the worst, rounded up.
OVERHEAD = 370

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

LOOKS = 1024
"""Slots that `expire` looks at by default: about a millisecond."""

ROUGHNESS = 6
"""Bits by which a bucket further ahead is wider: 1 s, 64 s, 4096 s, ..."""


class Slot(Generic[V]):
    """An entry's place in the table, in its home queue and in its bucket. `weight` includes `OVERHEAD`."""

    __slots__ = (
        "after",
        "before",
        "bucket",
        "expiry",
        "freq",
        "home",
        "key",
        "newer",
        "older",
        "value",
        "weight",
    )
    home: Queue[V]
    older: Slot[V] | None
    newer: Slot[V] | None
    bucket: Bucket[V]
    before: Slot[V] | None
    after: Slot[V] | None

    def __init__(self, key: bytes, value: V, weight: int, expiry: float) -> None:
        self.key = key
        self.value = value
        self.weight = weight
        self.freq = 0
        self.expiry = expiry


class Queue(Generic[V]):
    """First in, first out; linked through its slots, so that one leaves from anywhere and nothing is left behind."""

    __slots__ = ("newest", "oldest", "weight")

    def __init__(self) -> None:
        self.oldest: Slot[V] | None = None
        self.newest: Slot[V] | None = None
        self.weight = 0

    def push(self, slot: Slot[V]) -> None:
        newest = self.newest
        slot.home = self
        slot.older = newest
        slot.newer = None
        if newest is None:
            self.oldest = slot
        else:
            newest.newer = slot
        self.newest = slot
        self.weight += slot.weight

    def remove(self, slot: Slot[V]) -> None:
        older, newer = slot.older, slot.newer
        if older is None:
            self.oldest = newer
        else:
            older.newer = newer
        if newer is None:
            self.newest = older
        else:
            newer.older = older
        slot.older = slot.newer = None
        self.weight -= slot.weight

    def clear(self) -> None:
        self.oldest = self.newest = None
        self.weight = 0


class Bucket(Generic[V]):
    """Slots to be looked at at the same moment, in no order; linked through them, as a set keeps its largest size."""

    __slots__ = ("first",)

    def __init__(self) -> None:
        self.first: Slot[V] | None = None

    def add(self, slot: Slot[V]) -> None:
        first = self.first
        slot.bucket = self
        slot.before = None
        slot.after = first
        if first is not None:
            first.before = slot
        self.first = slot

    def remove(self, slot: Slot[V]) -> None:
        before, after = slot.before, slot.after
        if before is None:
            self.first = after
        else:
            before.after = after
        if after is not None:
            after.before = before
        slot.before = slot.after = None


class Ghosts:
    """Keys that left the small queue lately, as hashes: a collision only promotes too early."""

    __slots__ = ("hashes", "order")

    def __init__(self) -> None:
        self.hashes: set[int] = set()
        self.order: deque[int] = deque()

    def add(self, key: bytes) -> None:
        ghost = hash(key)
        self.hashes.add(ghost)
        self.order.append(ghost)

    def trim(self, limit: int) -> None:
        while len(self.order) > limit:
            self.hashes.discard(self.order.popleft())

    def clear(self) -> None:
        self.hashes.clear()
        self.order.clear()


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
        self.table: dict[bytes, Slot[V]] = {}
        self.small: Queue[V] = Queue()
        self.main: Queue[V] = Queue()
        self.ghosts = Ghosts()
        self.buckets: dict[float, Bucket[V]] = {}
        self._dues: list[float] = []  # a heap of the keys of `buckets`
        self._second = 0
        self._on_evict = on_evict

    @property
    def weight(self) -> int:
        """Bytes held, `OVERHEAD` included; never above the bound."""
        return self.small.weight + self.main.weight

    def __len__(self) -> int:
        return len(self.table)

    def entries(self) -> Iterator[tuple[bytes, Slot[V]]]:
        """Iterate over keys and slots, in no order; a RuntimeError if entries come or go meanwhile."""
        return iter(self.table.items())

    def get(self, key: bytes) -> V | None:
        """Return the value and count the read."""
        slot = self.table.get(key)
        if slot is None:
            return None
        freq = slot.freq
        if freq < MOST_READS:
            slot.freq = freq + 1
        return slot.value

    def peek(self, key: bytes) -> V | None:
        """Return the value, uncounted."""
        slot = self.table.get(key)
        return None if slot is None else slot.value

    def put(self, key: bytes, value: V, weight: int, expiry: float) -> bool:
        """Store, or refuse what is above 1/8 of the bound; either way the old value of the key is gone.

        `weight` is that of key and value in bytes, `expiry` the moment at which retention ends, `inf` for never.
        """
        weight += OVERHEAD
        slot = self.table.get(key)
        if weight > self.bound // LARGEST_SHARE:
            if slot is not None:
                self._remove(slot)
            return False
        bucket = self._bucket(expiry)
        if slot is None:
            evicted = self._make_room(weight)
            slot = self.table[key] = Slot(key, value, weight, expiry)
            bucket.add(slot)
            (self.main if hash(key) in self.ghosts.hashes else self.small).push(slot)
        else:
            evicted = self._reweigh(slot, weight)
            slot.value = value
            slot.expiry = expiry
            if bucket is not slot.bucket:
                slot.bucket.remove(slot)
                bucket.add(slot)
        self._report(evicted)
        return True

    def delete(self, key: bytes) -> bool:
        """Drop it, and say whether it was there."""
        slot = self.table.get(key)
        if slot is None:
            return False
        self._remove(slot)
        return True

    def expire(self, now: float, limit: int = LOOKS) -> int:
        """Drop what retention has ended for, and say how many; to be called about once a second.

        An entry goes within a second of its end, or later if more than `limit` slots a call are due to be looked at.
        Each is looked at once per factor of 64 that its retention is long in seconds, however many others there are.
        """
        self._second = floor(now)
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
        self._report(ended)
        return len(ended)

    def clear(self) -> None:
        """Drop everything, ghosts too."""
        # Neighbours hold each other, queues and buckets hold them: unlinked, they go now and not at a full collection.
        for slot in self.table.values():
            slot.older = slot.newer = slot.before = slot.after = None
        for bucket in self.buckets.values():
            bucket.first = None
        self.small.clear()
        self.main.clear()
        self.table.clear()
        self.ghosts.clear()
        self.buckets.clear()
        self._dues.clear()

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
        del self.table[slot.key]
        self.ghosts.trim(len(self.table) // GHOST_SHARE)

    def _reweigh(self, slot: Slot[V], weight: int) -> list[bytes]:
        """Weigh anew in place, as overwriting is not reading; to the back if others must go for what it gained."""
        home = slot.home
        gained = weight - slot.weight
        if self.weight + gained <= self.bound:
            slot.weight = weight
            home.weight += gained
            return []
        home.remove(slot)  # so that it is not its own victim
        slot.weight = weight
        evicted = self._make_room(weight)
        home.push(slot)
        return evicted

    def _make_room(self, weight: int) -> list[bytes]:
        evicted: list[bytes] = []
        room = self.bound - weight
        chances = CHANCES
        while self.small.weight + self.main.weight > room and (slot := self._candidate()) is not None:
            slot.home.remove(slot)
            if self._spared(slot) and chances:
                self.main.push(slot)
                chances -= 1
                continue
            if slot.home is self.small:
                self.ghosts.add(slot.key)
            self._forget(slot)
            evicted.append(slot.key)
            chances = CHANCES
        return evicted

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
