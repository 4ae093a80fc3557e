"""Requests while Redis is frozen, as on a host that swaps; and how soon it is used again."""

import asyncio
import logging
import os
import signal
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from math import ceil, inf
from statistics import median
from time import perf_counter
from typing import NamedTuple

from benchmarks.processes import Running
from benchmarks.rows import Benchmark, Row, Run
from benchmarks.servers import redis, redis_url
from benchmarks.shop import DAY, raw
from benchmarks.timing import Application, asked, nothing_more, on_loop, scope_of, unheard
from tiercel import Cache, CacheMiddleware, Policy
from tiercel._engine.breaker import FAILURES, LONGEST
from tiercel.spi import Event, Failed

INTERVAL = 0.0025
"""Seconds from one request to the next, whether or not that one has been answered."""
BEFORE, FROZEN, AFTER = 0.5, 3.0, 3.0
"""Seconds before it is frozen, while it is, and after."""
KEYS = ceil((BEFORE + FROZEN + LONGEST + AFTER) / INTERVAL)
PATIENCE = 5.0
"""Seconds that the store gets while it is filled: all of it is to be there."""
KNOWN = "/items/known"
MILLI = 1e3
PHASES = ("before", "frozen, the first ones", "frozen, the others")


class Asked(NamedTuple):
    """One request: when it came, when it was answered, and whether from what is stored."""

    at: float
    answered: float
    hit: bool


@dataclass(slots=True)
class Freeze:
    """What happened around one."""

    failed: list[float] = field(default_factory=list[float])
    """When the store failed."""
    frozen: float = inf
    thawed: float = inf
    stored: list[Asked] = field(default_factory=list[Asked])
    """Requests for what is in the store, each for something else."""
    known: list[Asked] = field(default_factory=list[Asked])
    """Requests for what is in memory."""

    def on_event(self, event: Event) -> None:
        if isinstance(event, Failed) and event.where == "store":
            self.failed.append(perf_counter())

    def phases(self, asked: Sequence[Asked]) -> list[list[Asked]]:
        """Those before; those that came until the store was left alone; those that came from then on."""
        failed = [at for at in self.failed if at > self.frozen]
        if len(failed) < FAILURES:
            raise RuntimeError(f"The store has failed {len(failed)} times only.")
        edges = (-inf, self.frozen, failed[FAILURES - 1], self.thawed)
        return [[one for one in asked if edges[n] <= one.at < edges[n + 1]] for n in range(len(PHASES))]

    def used_again(self) -> float:
        """Seconds from the thaw to the first answer from the store."""
        answered = [one.answered for one in self.stored if one.hit and one.answered > self.thawed]
        return min(answered, default=inf) - self.thawed


def rows(run: Run) -> Iterator[Row]:
    logging.getLogger("tiercel").addHandler(logging.NullHandler())  # that it fails is no news here
    rounds = run.pick(3, 9)
    run.planned(rounds)
    freezes = list[Freeze]()
    with redis(run) as server, on_loop() as runner:
        runner.run(_fill(server))
        for number in range(1, rounds + 1):
            # It does not always end at the same moment of a rest of the store.
            freezes.append(runner.run(_freeze(server, FROZEN + LONGEST * number / rounds)))
            run.stepped(f"freeze {number}")
    yield from _added("from the store", [freeze.phases(freeze.stored) for freeze in freezes])
    yield from _added("from memory", [freeze.phases(freeze.known) for freeze in freezes])
    yield Row(name="used again after", samples=tuple(freeze.used_again() for freeze in freezes), unit="s")


def _added(source: str, freezes: Sequence[Sequence[Sequence[Asked]]]) -> Iterator[Row]:
    """The time that requests take, by phase; the note says how many milliseconds of it were added."""
    usual = median([_taken(one) for phases in freezes for one in phases[0]])
    for number, phase in enumerate(PHASES):
        samples = tuple(_p99(phases[number]) for phases in freezes)
        asked = [one for phases in freezes for one in phases[number]]
        found = f"{median(samples) - usual:+.1f} ms; slowest {max(map(_taken, asked)):.1f} ms"
        note = f"{found}; {sum(one.hit for one in asked)} hits of {len(asked)}"
        yield Row(name=f"{source}, {phase}: p99", samples=samples, unit="ms", note=note)


def _taken(one: Asked) -> float:
    return (one.answered - one.at) * MILLI


def _p99(asked: Sequence[Asked]) -> float:
    return sorted(map(_taken, asked))[ceil(len(asked) * 0.99) - 1]


# -- one freeze ------------------------------------------------------------------------------------------------------


async def _freeze(server: Running, seconds: float) -> Freeze:
    freeze = Freeze()
    cache = Cache(redis_url(server), observers=[freeze])
    app = _around(cache)
    await cache.open()
    await asked(app, KNOWN)
    begun = perf_counter()
    requests = asyncio.create_task(_requests(app, freeze, until=begun + BEFORE + seconds + AFTER))
    await asyncio.sleep(BEFORE)
    freeze.frozen = perf_counter()
    with _stopped(server.pid):
        await asyncio.sleep(seconds)
    freeze.thawed = perf_counter()
    await requests
    await cache.aclose()
    return freeze


@contextmanager
def _stopped(pid: int) -> Generator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def _requests(app: Application, freeze: Freeze, until: float) -> None:
    """They come when they come, however long others take."""
    begun = perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in count():
            due = begun + number * INTERVAL
            if due > until:
                break
            await asyncio.sleep(due - perf_counter())
            group.create_task(_request(app, f"/items/{number % KEYS}", freeze.stored))
            group.create_task(_request(app, KNOWN, freeze.known))


async def _request(app: Application, path: str, told: list[Asked]) -> None:
    at = perf_counter()
    _, headers, _ = await asked(app, path)
    told.append(Asked(at, perf_counter(), b"; hit" in headers[b"cache-status"]))


async def _fill(server: Running) -> None:
    cache = Cache(redis_url(server), store_timeout=PATIENCE)
    app = _around(cache)
    await cache.open()
    for path in [KNOWN, *[f"/items/{key}" for key in range(KEYS)]]:
        await app(scope_of(path), nothing_more, unheard)
    await cache.aclose()


def _around(cache: Cache) -> CacheMiddleware:
    return CacheMiddleware(raw(), cache=cache, default=Policy(ttl=DAY))


BENCHMARKS = (
    Benchmark(
        name="frozen",
        title="Redis frozen",
        method=f"Two requests every {INTERVAL * MILLI:g} ms, through the middleware around bare ASGI, without a server "
        f"in front: one for what is in Redis only, one for what is in memory. After {BEFORE:g} s Redis is stopped "
        f"(SIGSTOP), after {FROZEN:g} to {FROZEN + LONGEST:g} s more it goes on. The first ones came before the store "
        f"had failed {FAILURES} times in a row, which is when it is left alone; of the others one at a time finds out "
        "whether it is back, and is the slowest. What is not a hit was answered by the application, at once. Beside "
        "it: the 99th percentile beyond the median before. Used again: from SIGCONT to the first answer from Redis, "
        f"of which a rest of up to {LONGEST:g} s is the most.",
        rows=rows,
        needs=("redis-server", "taskset"),
    ),
)
