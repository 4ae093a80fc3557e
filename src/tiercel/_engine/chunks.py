"""Bodies while they grow, and how much memory they may take meanwhile."""

OVERHEAD = 48
"""Bytes of a chunk beyond its own, as Python counts them: many small ones are not for nothing."""


class Room:
    """How many bytes may be growing at once, in all flights of a cache together."""

    __slots__ = ("bound", "taken")

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.taken = 0

    def fits(self, size: int) -> bool:
        """Whether a body, or a chunk, may come on top."""
        return self.taken + size + OVERHEAD <= self.bound


class Chunks:
    """The pieces of one body, counted from the first; of those that everyone has read only the number is kept."""

    __slots__ = ("_dropped", "_kept", "_room", "weight")

    def __init__(self, room: Room) -> None:
        self.weight = 0
        """Bytes that it takes of the room."""
        self._room = room
        self._dropped = 0
        self._kept: list[bytes] = []

    def __len__(self) -> int:
        return self._dropped + len(self._kept)

    def __getitem__(self, at: int) -> bytes:
        return self._kept[at - self._dropped]

    def append(self, chunk: bytes) -> None:
        """One more; whether there is room for it is the business of whoever has it."""
        self._kept.append(chunk)
        self._weigh(len(chunk) + OVERHEAD)

    def whole(self, last: bytes) -> bytes:
        """All there was, and the last one."""
        return b"".join((*self._kept, last)) if self._kept else last

    def drop(self, until: int) -> bool:
        """Forget those before; whether there were any."""
        gone = self._kept[: max(0, until - self._dropped)]
        if gone:
            del self._kept[: len(gone)]
            self._dropped += len(gone)
            self._weigh(-sum(map(len, gone)) - OVERHEAD * len(gone))
        return bool(gone)

    def clear(self) -> None:
        """Forget all."""
        if self._kept:
            self.drop(len(self))

    def _weigh(self, bytes_: int) -> None:
        self.weight += bytes_
        self._room.taken += bytes_
