"""Caches in memory: how many reads of a trace hit, and what a memoised function takes.

`python -m benchmarks.peers.policies TRACE`, then a line "NAME ROOM" for each question, answered by the hits.
"""

# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false
# (What it imports is installed in an environment of its own.)

import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import cachebox
import theine
from cachetools import TTLCache, cached

HOUR = 3_600


def cachetools_rate() -> Callable[[str, int], float]:
    @cached(TTLCache(maxsize=10_000, ttl=HOUR))
    def rate(base: str, day: int) -> float:
        return day * 1.25

    return rate


def cachebox_rate() -> Callable[[str, int], float]:
    @cachebox.cached(cachebox.TTLCache(10_000, HOUR))
    def rate(base: str, day: int) -> float:
        return day * 1.25

    return rate


def theine_rate() -> Callable[[str, int], float]:
    @theine.Memoize(10_000, timedelta(hours=1))
    def rate(base: str, day: int) -> float:
        return day * 1.25

    @rate.key
    def key(base: str, day: int) -> str:
        return f"{base}:{day}"

    return rate


def theine_hits(trace: list[str], room: int) -> int:
    cache: Any = theine.Cache(room)
    found = 0
    for key in trace:
        if cache.get(key)[1]:
            found += 1
        else:
            cache.set(key, key)
    cache.close()
    return found


def cachebox_hits(cache: Any, trace: list[str]) -> int:
    found = 0
    for key in trace:
        if cache.get(key) is None:
            cache.insert(key, key)
        else:
            found += 1
    return found


POLICIES: dict[str, Callable[[list[str], int], int]] = {
    "theine": theine_hits,
    "cachebox, LRU": lambda trace, room: cachebox_hits(cachebox.LRUCache(room), trace),
    "cachebox, LFU": lambda trace, room: cachebox_hits(cachebox.LFUCache(room), trace),
}


if __name__ == "__main__":
    read = Path(sys.argv[1]).read_text().splitlines()
    for line in sys.stdin:
        name, _, room = line.strip().rpartition(" ")
        print(POLICIES[name](read, int(room)), flush=True)
