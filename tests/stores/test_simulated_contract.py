"""The contract of stores, over a simulated server; and that it catches stores that break it."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tiercel.spi import Ask, Cut, Found, Kept, Parcel, Store
from tiercel.testing import SimulatedServer, SimulatedStore, StoreContract, run_virtual


class TestSimulatedStore(StoreContract):
    @pytest.fixture
    def place(self) -> Callable[[], SimulatedServer]:
        found: list[SimulatedServer] = []

        def server() -> SimulatedServer:
            if not found:
                found.append(SimulatedServer(latency=0.001))
            return found[0]

        return server

    def make(self, place: Callable[[], SimulatedServer], namespace: str) -> Store:
        return SimulatedStore(place(), namespace=namespace)


# -- stores that break it --------------------------------------------------------------------------------------------


class LosesLater(SimulatedStore):
    """What was born earlier replaces what was born later."""

    def _store(self, key: bytes, parcel: Parcel) -> None:
        self._space.rows.pop(key, None)
        super()._store(key, parcel)


class GrantsTwice(SimulatedStore):
    def _found(self, ask: Ask) -> Found:
        self._space.leases.clear()
        return super()._found(ask)


class ReleasesForAnybody(SimulatedStore):
    async def put(self, key: bytes, lane: bytes, parcel: Parcel | None, lease: bytes | None) -> None:
        self._space.leases.pop((key, lane), None)
        await super().put(key, lane, parcel, lease)


class ForgetsCutsOfWhatComesLater(SimulatedStore):
    """Deletes what is there, and does not remember why."""

    async def append(self, tags: Sequence[str], *, soft: bool = False) -> int:
        cut = await super().append(tags, soft=soft)
        if not soft:
            self._space.rows.clear()
            for tag in tags:
                self._space.hard.pop(tag, None)
        return cut


class IgnoresAbove(SimulatedStore):
    def _kept(self, row: Any, ask: Ask, now: float) -> Kept | None:
        return super()._kept(row, Ask(key=ask.key, fields=ask.fields), now)


class TakesSoftForHard(SimulatedStore):
    async def append(self, tags: Sequence[str], *, soft: bool = False) -> int:
        return await super().append(tags)


class MixesNamespaces(SimulatedStore):
    def __init__(self, server: SimulatedServer, *, namespace: str = "") -> None:
        super().__init__(server, namespace="one for all")


class AppliesOutOfOrder(SimulatedStore):
    async def _follow(self, log: Any) -> None:
        class Backwards:
            position = floor = 0

            def apply(self, cuts: Sequence[Cut], position: int, *, since: int | None = None) -> None:
                log.apply(cuts[::-1], position, since=since)

            def reset(self, position: int) -> None: ...

        await super()._follow(Backwards())


class KeepsEveryVariant(SimulatedStore):
    def _store(self, key: bytes, parcel: Parcel) -> None:
        shelf = self._space.rows.pop(key, [])
        super()._store(key, parcel)
        self._space.rows[key] = [
            *self._space.rows.get(key, []),
            *[row for row in shelf if row.parcel.selecting != parcel.selecting],
        ]


class ForgetsItsPromises(SimulatedStore):
    async def hold(self, tags: Sequence[str], seconds: float) -> bytes:
        del seconds
        return await super().hold(tags, 1e6)


class ServesWhatIsHeld(SimulatedStore):
    def _kept(self, row: Any, ask: Ask, now: float) -> Kept | None:
        holds, self._space.holds = self._space.holds, {}
        try:
            return super()._kept(row, ask, now)
        finally:
            self._space.holds = holds


class TellsNobodyOfHolds(SimulatedStore):
    def _greeted(self, run: int, epoch: int, head: int, holds: Sequence[Cut]) -> None:
        super()._greeted(run, epoch, head, [])


class ForgetsWhatIsReleased(SimulatedStore):
    async def release(self, token: bytes, tags: Sequence[str]) -> int:
        del token
        return await self.append(tags)


class TrustsItselfWhenClosed(SimulatedStore):
    def current(self) -> bool:
        return True


@pytest.mark.parametrize(
    "broken",
    [
        LosesLater, GrantsTwice, ReleasesForAnybody, ForgetsCutsOfWhatComesLater, IgnoresAbove, TakesSoftForHard,
        MixesNamespaces, AppliesOutOfOrder, KeepsEveryVariant, ForgetsItsPromises, TrustsItselfWhenClosed,
        ServesWhatIsHeld, TellsNobodyOfHolds, ForgetsWhatIsReleased,
    ],
)  # fmt: skip
def test_the_contract_catches_a_store_that_breaks_it(broken: type[SimulatedStore]) -> None:
    class Contract(StoreContract):
        def make(self, place: SimulatedServer, namespace: str) -> Store:
            return broken(place, namespace=namespace)

    caught: list[str] = []

    async def kept(claim: str) -> None:
        await getattr(Contract(), claim)(SimulatedServer(latency=0.001))

    for claim in [name for name in dir(StoreContract) if name.startswith("test_")]:
        try:
            run_virtual(kept(claim))
        except AssertionError:
            caught.append(claim)
    assert caught
