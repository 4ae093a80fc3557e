"""Where an entry of the memory tier stands: its slot, its queue, and the bucket of its expiry."""

from __future__ import annotations

from typing import Generic, TypeVar

V = TypeVar("V")


class Read(Generic[V]):
    """What a read touches. Fields of a base come first, so these lie in one line of the processor's cache."""

    __slots__ = ("freq", "value")
    freq: int
    value: V


class Slot(Read[V]):
    """An entry's place in the table, in its home queue and in its bucket. `weight` includes `OVERHEAD`."""

    __slots__ = (
        "after",
        "before",
        "bucket",
        "expiry",
        "home",
        "key",
        "newer",
        "older",
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
