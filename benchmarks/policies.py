"""What is kept when not all can be: our memory tier, and the two that all others are compared with."""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from typing import Protocol

from tiercel._core.memory import OVERHEAD, Memory

WEIGHT = 1_000


class Kept(Protocol):
    """Keys, so many of them."""

    def read(self, key: str) -> bool:
        """Whether it was there; it is from now on, if it is let in."""
        ...


class Lru:
    """The least recently used goes."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._kept: OrderedDict[str, None] = OrderedDict()

    def read(self, key: str) -> bool:
        if key in self._kept:
            self._kept.move_to_end(key)
            return True
        if len(self._kept) == self._room:
            self._kept.popitem(last=False)
        self._kept[key] = None
        return False


class Lfu:
    """The least often used goes, among those the least recently; it begins anew when it comes back."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._uses: dict[str, int] = {}
        self._by_uses: defaultdict[int, OrderedDict[str, None]] = defaultdict(OrderedDict)
        self._least = 1

    def read(self, key: str) -> bool:
        uses = self._uses.get(key)
        if uses is not None:
            self._leave(key, uses)
            if uses == self._least and uses not in self._by_uses:
                self._least += 1
            self._enter(key, uses + 1)
            return True
        if len(self._uses) == self._room:
            victim = next(iter(self._by_uses[self._least]))
            self._leave(victim, self._uses.pop(victim))
        self._least = 1
        self._enter(key, 1)
        return False

    def _enter(self, key: str, uses: int) -> None:
        self._uses[key] = uses
        self._by_uses[uses][key] = None

    def _leave(self, key: str, uses: int) -> None:
        del self._by_uses[uses][key]
        if not self._by_uses[uses]:
            del self._by_uses[uses]


class Ours:
    """The memory tier, with entries of one weight."""

    def __init__(self, room: int) -> None:
        self._memory: Memory[bool] = Memory(WEIGHT * room)

    def read(self, key: str) -> bool:
        name = key.encode()
        if self._memory.get(name) is not None:
            return True
        self._memory.put(name, True, WEIGHT - OVERHEAD, 1.0)  # noqa: FBT003 - the value
        return False


POLICIES: dict[str, Callable[[int], Kept]] = {"Tiercel": Ours, "LRU": Lru, "LFU": Lfu}


def hits(kept: Kept, trace: Iterable[str]) -> int:
    return sum(map(kept.read, trace))
