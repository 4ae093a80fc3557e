"""A play: several processes, each the real engine, share a simulated server; things go wrong; a checker watches P.

P: let the invalidation of a tag be acknowledged. No read that begins after that returns what began to be produced
before the change: at once in the acknowledging process, within Δ in every other.

A change that is made while its tag is held counts as acknowledged when it is made, also if its process is killed then;
unless the server loses the end of its log while it is held.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from drive import Scope, Send, Shop

from tiercel._core.keys import group_tag
from tiercel._engine.fills import IncompleteError
from tiercel.errors import NotAcknowledged
from tiercel.testing import SimulatedServer, SimulatedStore

DELTA = 1.0
SECONDS = 20.0
KEYS = ("a", "b", "c")
LIFETIME = b"max-age=%d, stale-while-revalidate=%d, stale-if-error=3"

Make = Callable[[Any], SimulatedStore]


@dataclass
class Acknowledged:
    at: float
    process: int
    key: str
    version: int
    is_void: bool = False
    """It was only held, and the server may have forgotten that."""


@dataclass
class Committed(Acknowledged):
    """While the tag was held."""


@dataclass(frozen=True)
class Violation:
    """A read that P forbids."""

    began: float
    process: int
    key: str
    got: int
    owed: int
    said: str


class Link:
    """One process's way to the server, which may be cut without a word."""

    def __init__(self, server: SimulatedServer, dice: random.Random) -> None:
        self._server = server
        self._dice = dice
        self._up = asyncio.Event()
        self._up.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)

    def sever(self) -> None:
        self._up.clear()

    def mend(self) -> None:
        self._up.set()

    async def reached(self) -> None:
        await self._late()
        await self._server.reached()

    async def left(self) -> None:
        await self._late()
        await self._server.left()

    async def _late(self) -> None:
        """A message that is under way when the link is cut gets there when it is mended, or never."""
        await self._up.wait()
        await asyncio.sleep(self._dice.choice((0.0005, 0.001, 0.002, 0.03)))
        await self._up.wait()


class SourceError(Exception):
    """The application has failed."""


class Source:
    """The application, and what it answers from: a version of each key."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._directives = LIFETIME % (dice.choice((1, 3, 30)), dice.choice((0, 2)))
        self.version = dict.fromkeys(KEYS, 0)
        self.calls = 0

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        del receive
        self.calls += 1
        key = scope["path"][1:]
        version = self.version[key]  # read at once: whatever changes from now on is not in the answer
        await asyncio.sleep(self._dice.choice((0.0, 0.01, 0.1, 0.5, 2.0)))
        if self._dice.random() < 0.03:
            raise SourceError
        headers = [(b"cache-control", self._directives), (b"cache-groups", b'"%b"' % key.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"%d" % version})


class Play:
    """One play, which its seed decides."""

    def __init__(
        self, seed: int, *, make: Make = SimulatedStore, prepare: Callable[[Shop], None] = lambda _: None
    ) -> None:
        self.dice = random.Random(seed)
        self.writes = self.dice.choice((2, 12))
        """How often, of a hundred things that happen: after each, what was wrong before is gone."""
        self.server = SimulatedServer()
        self.make = make
        self.prepare = prepare
        self.source = Source(self.dice)
        self.acknowledged: list[Acknowledged] = []
        self.violations: list[Violation] = []
        self.reads = self.hits = self.unacknowledged = self.killed = 0
        self.links: list[Link] = []
        self.shops: list[Shop] = []
        self.gone: list[Shop] = []

    async def run(self) -> None:
        for number in range(3):
            self.start(number)
        loop = asyncio.get_running_loop()
        tasks: list[asyncio.Task[None]] = []
        while loop.time() < SECONDS:
            tasks.append(asyncio.create_task(self.step()))
            await asyncio.sleep(self.dice.expovariate(25.0))
        for link in self.links:
            link.mend()
        await asyncio.gather(*tasks)
        for shop in [*self.gone, *self.shops]:
            await self.stop(shop)

    def start(self, number: int) -> None:
        link = Link(self.server, self.dice)
        shop = Shop(self.source, store=self.make(link), deadline=0.2, hard=5.0, soft=0.5, draw=self.dice.random())
        self.prepare(shop)
        if number < len(self.shops):
            self.links[number], self.shops[number] = link, shop
        else:
            self.links.append(link)
            self.shops.append(shop)

    async def stop(self, shop: Shop) -> None:
        await shop.engine.background.aclose()
        assert shop.engine.depot is not None
        await shop.engine.depot.aclose()

    async def step(self) -> None:
        """One thing happens, to one process or to the server."""
        number = self.dice.randrange(len(self.shops))
        happens = [
            (80, self.read), (self.writes, self.write), (1.5, self.change), (2, self.severed), (0.5, self.restarted),
            (1.5, self.trimmed), (0.5, self.failed_over), (0.1, self.emptied), (0.2, self.frozen),
        ]  # fmt: skip
        await self.dice.choices([what for _, what in happens], [often for often, _ in happens])[0](number)

    async def severed(self, number: int) -> None:
        link = self.links[number]
        link.sever()
        await asyncio.sleep(self.dice.choice((0.1, 0.5, 3.0)))
        link.mend()

    async def restarted(self, number: int) -> None:
        shop, link = self.shops[number], self.links[number]
        self.gone.append(shop)  # what it was asked last may open its store once more
        self.start(number)
        if self.dice.random() < 0.5:
            link.mend()
        else:
            link.sever()  # killed: nothing of it gets anywhere any more
        await self.stop(shop)

    def kill(self, number: int) -> None:
        """Nothing of it gets anywhere any more; another is begun in its place."""
        self.gone.append(self.shops[number])
        self.links[number].sever()
        self.start(number)

    async def trimmed(self, _: int) -> None:
        self.server.trim(self.dice.choice((0, 1, 5)))

    async def failed_over(self, _: int) -> None:
        self.lose()
        self.server.fail_over(self.dice.choice((0, 1, 2, 4)))

    async def emptied(self, _: int) -> None:
        self.lose()
        self.server.restart()

    def lose(self) -> None:
        """A server that forgets may forget what is held, and nobody else knows of it."""
        for one in self.acknowledged:
            if isinstance(one, Committed) and self.is_held(one.key):
                one.is_void = True

    def is_held(self, key: str) -> bool:
        return any(tag_of(key) in hold.tags for hold in self.server.space("tiercel").holds.values())

    async def frozen(self, _: int) -> None:
        self.server.freeze()
        await asyncio.sleep(self.dice.choice((0.1, 2.0)))
        self.server.thaw()

    async def read(self, number: int) -> None:
        key, began = self.dice.choice(KEYS), asyncio.get_running_loop().time()
        owed = self.owed(number, key, began)
        shop = self.shops[number]
        try:
            visit = await shop.get(f"/{key}")
        except SourceError:
            return
        except IncompleteError:
            assert shop is not self.shops[number], "only a process that ends gives up what it has begun"
            return
        if visit.status == 200 and visit.ended:
            self.reads += 1
            self.hits += visit.said == "hit"
            got, owed = int(visit.body), min(owed, self.owed(number, key, began))
            if got < owed:
                self.violations.append(Violation(began, number, key, got, owed, visit.said))

    async def write(self, number: int) -> None:
        key, shop = self.dice.choice(KEYS), self.shops[number]
        self.source.version[key] += 1
        version = self.source.version[key]
        try:
            await shop.engine.invalidate([tag_of(key)])
        except NotAcknowledged:
            self.unacknowledged += 1
            return
        self.acknowledge(shop, number, key, version)

    async def change(self, number: int) -> None:
        """A write with a promise before it; some processes are killed between it and the cut."""
        key, shop = self.dice.choice(KEYS), self.shops[number]
        changing = shop.engine.mutation((tag_of(key),))
        try:
            await changing.__aenter__()
        except NotAcknowledged:
            self.unacknowledged += 1
            return
        if self.dice.random() < 0.5:  # whoever begins now has not heard of the hold by the log
            self.kill(self.dice.randrange(len(self.shops)))
        await asyncio.sleep(self.dice.choice((0.0, 0.01, 0.1, 0.5, 3.0)))
        ends = None
        if self.shops[number] is shop:
            self.source.version[key] += 1
            ends = self.source.version[key]
            self.commit(number, key, ends)
            await asyncio.sleep(self.dice.choice((0.0, 0.01, 0.1, 0.5, 3.0)))
        try:
            await changing.__aexit__(None, None, None)
        except NotAcknowledged:
            self.unacknowledged += 1
        else:
            if ends is not None:
                self.acknowledge(shop, number, key, ends)

    def commit(self, number: int, key: str, version: int) -> None:
        at, held = asyncio.get_running_loop().time(), self.is_held(key)
        if self.dice.random() < 0.5:
            self.killed += held
            self.kill(number)
            number = -1
        if held:
            self.acknowledged.append(Committed(at, number, key, version))

    def acknowledge(self, shop: Shop, number: int, key: str, version: int) -> None:
        at = asyncio.get_running_loop().time()
        # Another process may have its number by now.
        self.acknowledged.append(Acknowledged(at, number if self.shops[number] is shop else -1, key, version))

    def owed(self, number: int, key: str, began: float) -> int:
        """The version that a read of this process has to show at least."""
        known = [
            one.version
            for one in self.acknowledged
            if one.key == key and (one.process == number or one.at <= began - DELTA) and not one.is_void
        ]
        return max(known, default=0)


def tag_of(key: str) -> str:
    return group_tag("http", b"shop", key)
