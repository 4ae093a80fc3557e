"""The engine's own code, three processes, cut links and restarts: P holds for every seed, and each mutant breaks it.

`SEEDS=` plays more of them; a seed that fails replays exactly.
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from drive import Shop
from playing import Play, SourceError

from tiercel._core.entry import Entry
from tiercel._engine import telling
from tiercel._engine.flights import Flight
from tiercel.spi import Ask, Cut, Kept, Log
from tiercel.testing import SimulatedStore, run_virtual

SEEDS = int(os.environ.get("SEEDS", "300"))
BATCH = 25
MUTANT_SEEDS = 200


@pytest.fixture(autouse=True)
def short_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that some end while they are played."""
    monkeypatch.setattr(telling, "HELD", 4.0)


def unheard(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An application may fail behind the reply; nothing else may."""
    if not isinstance(context.get("exception"), SourceError):
        loop.default_exception_handler(context)


def played(seed: int, **how: Any) -> Play:
    async def play() -> Play:
        asyncio.get_running_loop().set_exception_handler(unheard)
        made = Play(seed, **how)
        await made.run()
        return made

    return run_virtual(play())


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_no_read_returns_what_an_acknowledged_invalidation_forbids(first: int) -> None:
    plays = {seed: played(seed) for seed in range(first, min(first + BATCH, SEEDS))}
    assert {seed: play.violations for seed, play in plays.items() if play.violations} == {}
    assert sum(play.reads for play in plays.values()) > 200 * len(plays), "it was a play"
    assert sum(play.hits for play in plays.values()) > 50 * len(plays)
    assert sum(len(play.acknowledged) for play in plays.values()) > 20 * len(plays)
    assert sum(play.unacknowledged for play in plays.values()) > 0
    assert sum(play.killed for play in plays.values()) > len(plays)


def test_a_seed_replays_exactly() -> None:
    one, again = played(7), played(7)
    assert (one.reads, one.hits, one.acknowledged) == (again.reads, again.hits, again.acknowledged)


class Instead:
    """An object of which something is different."""

    def __init__(self, whole: Any, **different: Any) -> None:
        self._whole = whole
        self.__dict__.update(different)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)


# -- mutants ---------------------------------------------------------------------------------------------------------


def stamp_after_fill(shop: Shop) -> None:
    """A response counts as born when it is stored."""
    store = shop.engine.tiers.store

    def late(key: bytes, entry: Entry, now: float, **more: Any) -> str:
        return store(key, replace(entry, born=shop.engine.stamps.position), now, **more)

    shop.engine.tiers.store = late  # type: ignore[method-assign]


def no_fence(shop: Shop) -> None:
    """Memory is trusted without proof."""
    fence: Any = shop.engine.tiers.fence
    fence.current = lambda: True


def late_join(shop: Shop) -> None:
    """Whoever comes after an invalidation may ride with a fill that began before it."""

    def always(flight: Flight) -> bool:
        del flight
        return True

    shop.engine.valid = always  # type: ignore[method-assign]


def no_floor(shop: Shop) -> None:
    """After the log was reset, what was made before it is judged by the cuts that are known."""
    stamps, reset = shop.engine.stamps, shop.engine.stamps.reset

    def lenient(position: int) -> None:
        floor = stamps.floor
        reset(position)
        stamps.floor = floor

    depot: Any = shop.engine.depot
    depot._reach._stamps = Instead(stamps, reset=lenient)


def no_detach(shop: Shop) -> None:
    """After the log was reset, one may go on riding with what began before."""
    valid = shop.engine.valid

    def lenient(flight: Flight) -> bool:
        floor, shop.engine.stamps.floor = shop.engine.stamps.floor, 0
        try:
            return flight.born < floor or valid(flight)
        finally:
            shop.engine.stamps.floor = floor

    shop.engine.valid = lenient  # type: ignore[method-assign]


def adopt_as_of_now(shop: Shop) -> None:
    """What was found counts as good for all that is known now, not for what the store had looked at."""
    depot: Any = shop.engine.depot
    read = depot._blobs.read

    def later(blob: bytes, *, born: int, **more: Any) -> object:
        del born
        return read(blob, born=shop.engine.stamps.position, **more)

    depot._blobs.read = later


def forgets_meanwhile(shop: Shop) -> None:
    """What the store could not be told of is not done here either, and acknowledged all the same."""
    depot: Any = shop.engine.depot
    append = depot.cuts.append

    async def quietly(tags: tuple[str, ...], *, soft: bool = False) -> int:
        try:
            found: int = await append(tags, soft=soft)
        except Exception:  # noqa: BLE001 - the mutant
            return shop.engine.stamps.position
        return found

    depot.cuts.append = quietly


def stores_while_held(shop: Shop) -> None:
    """A hold is a cut, and what is made after it is kept."""
    stamps, depot = shop.engine.stamps, shop.engine.depot

    def apply(cuts: Sequence[Cut], position: int, *, since: int | None = None) -> None:
        stamps.apply([replace(cut, holds=False) for cut in cuts], position, since=since)

    reach: Any = depot
    reach._reach._stamps = Instead(stamps, apply=apply)


def joins_while_held(shop: Shop) -> None:
    """What has begun since the hold may be joined: nothing has been cut since."""
    valid = shop.engine.valid

    def lenient(flight: Flight) -> bool:
        return flight.revision == shop.engine.stamps.revision or valid(flight)

    shop.engine.valid = lenient  # type: ignore[method-assign]


class ServesWhatIsHeld(SimulatedStore):
    """It looks at cuts only."""

    def _kept(self, row: Any, ask: Ask, now: float) -> Kept | None:
        holds, self._space.holds = self._space.holds, {}
        try:
            return super()._kept(row, ask, now)
        finally:
            self._space.holds = holds


class HoldIsNoCut(ServesWhatIsHeld):
    """A hold is the promise of a cut, and nothing else."""

    async def hold(self, tags: Sequence[str], seconds: float) -> bytes:
        hard = dict(self._space.hard)
        token = await super().hold(tags, seconds)
        self._space.hard = hard
        return token

    async def _appended(self, cut: Cut) -> int:
        return cut.id if cut.holds else await super()._appended(cut)

    def _greeted(self, run: int, epoch: int, head: int, holds: Sequence[Cut]) -> None:
        super()._greeted(run, epoch, head, [])

    def _follows(self, log: Log, cuts: list[Cut], head: int, *, gap: bool) -> None:
        super()._follows(log, [cut for cut in cuts if not cut.holds], head, gap=gap)


class TellsNoNewcomer(SimulatedStore):
    """Whoever begins, or begins anew, is not told of what is held."""

    def _greeted(self, run: int, epoch: int, head: int, holds: Sequence[Cut]) -> None:
        super()._greeted(run, epoch, head, [])

    def _follows(self, log: Log, cuts: list[Cut], head: int, *, gap: bool) -> None:
        super()._follows(log, [] if gap else cuts, head, gap=gap)


class NoCheck(SimulatedStore):
    """Finds what was cut."""

    def _kept(self, row: Any, ask: Ask, now: float) -> Kept | None:
        hard, everything = dict(self._space.hard), self._space.all
        self._space.hard.clear()
        self._space.all = 0
        try:
            return super()._kept(row, ask, now)
        finally:
            self._space.hard.update(hard)
            self._space.all = everything


class SkipsRecords(SimulatedStore):
    """The tail leaves out what was appended while it was away."""

    async def _follow(self, log: Any) -> None:
        class Forgetful:
            position = floor = 0

            def apply(self, cuts: Iterable[Any], position: int, *, since: int | None = None) -> None:
                log.apply(list(cuts)[:-1], position, since=since)

            def reset(self, position: int) -> None: ...

        await super()._follow(Forgetful())


class NoTrimCheck(SimulatedStore):
    """The tail takes what is left of the log for all of it."""

    def _follows(self, log: Log, cuts: list[Cut], head: int, *, gap: bool) -> None:
        del gap
        log.apply(cuts, head, since=self._position)


class NoEpoch(SimulatedStore):
    """Goes on with another server as if it knew all that the one before did."""

    def _greeted(self, run: int, epoch: int, head: int, holds: Sequence[Cut]) -> None:
        if self._run == 0:
            super()._greeted(run, epoch, head, holds)
        self._run, self._epoch = run, epoch


class AsOfNow(SimulatedStore):
    """Proof counts from when it comes, not from when it was asked for."""

    def current(self) -> bool:
        return self._log is not None


@pytest.mark.parametrize(
    "mutant",
    [
        stamp_after_fill, no_fence, late_join, no_floor, no_detach, adopt_as_of_now, forgets_meanwhile,
        stores_while_held, joins_while_held,
    ],
)  # fmt: skip
def test_an_engine_that_is_wrong_is_caught(mutant: Callable[[Shop], None]) -> None:
    assert any(played(seed, prepare=mutant).violations for seed in range(MUTANT_SEEDS))


@pytest.mark.parametrize(
    "mutant",
    [NoCheck, SkipsRecords, NoTrimCheck, NoEpoch, AsOfNow, HoldIsNoCut, TellsNoNewcomer],
)
def test_a_store_that_is_wrong_is_caught(mutant: type[SimulatedStore]) -> None:
    assert any(played(seed, make=mutant).violations for seed in range(MUTANT_SEEDS))
