"""Several processes that share a store: what one has, all have; what one cuts, nobody gets; what trouble costs."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from drive import FRESH, Origin, Say, Scope, Shop, Visit, turns

from tiercel import Cache
from tiercel._core import keys
from tiercel._core.entry import Request
from tiercel._core.events import Event, Failed, Unreadable
from tiercel._core.keys import group_tag, uri_tag
from tiercel._engine import telling
from tiercel._engine.breaker import FAILURES, LONGEST, REST
from tiercel._engine.depot import Claim, Lease
from tiercel._engine.telling import HELD, QUEUED, TOGETHER
from tiercel.errors import NotAcknowledged
from tiercel.spi import Ask, Cut, Found, Log
from tiercel.testing import SimulatedServer, SimulatedStore, VirtualClock, run_virtual

TAG = uri_tag("http", b"shop", b"/")


class Host:
    """Processes that share a server and an origin."""

    def __init__(self, say: Any = None, *, count: int = 3, latency: float = 0.001, **more: Any) -> None:
        self.server = SimulatedServer(latency=latency)
        self.origin = Origin(say)
        self.shops = [Shop(self.origin, store=SimulatedStore(self.server), **more) for _ in range(count)]

    @property
    def calls(self) -> int:
        return self.origin.calls

    async def close(self) -> None:
        self.server.thaw()
        self.server.refuses = False
        for shop in self.shops:
            await shop.engine.background.aclose()
            assert shop.engine.depot is not None
            await shop.engine.depot.aclose()


@asynccontextmanager
async def host(*given: Any, **more: Any) -> AsyncGenerator[Host]:
    made = Host(*given, **more)
    try:
        yield made
    finally:
        await made.close()


async def test_who_joins_what_the_only_waiter_has_left_gets_the_lease() -> None:
    async def granted(_: object) -> Claim:
        await asyncio.sleep(0.05)
        return Claim(lease=Lease(b"", b"token"))

    async with host(count=1) as made:
        depot = made.shops[0].engine.depot
        assert depot is not None
        first = asyncio.create_task(depot._together((b"key", b"", True), granted))
        await turns(3)
        first.cancel()
        await asyncio.wait([first])
        claim = await depot._together((b"key", b"", True), granted)
        await turns(3)
        assert claim.lease == Lease(b"", b"token")


async def test_a_lease_that_nobody_is_left_to_take_goes_back() -> None:
    request = Request("GET", "http", b"shop", b"/", ())
    async with host(count=2) as made:
        one, other = (shop.engine.depot for shop in made.shops)
        assert one is not None
        assert other is not None
        left = asyncio.create_task(one.claim(b"key", request, frozenset()))
        await turns(3)
        left.cancel()
        await asyncio.wait([left])
        await asyncio.sleep(0.1)
        assert (await other.claim(b"key", request, frozenset())).lease is not None


# -- what is stored --------------------------------------------------------------------------------------------------


async def test_what_one_process_has_stored_the_others_have() -> None:
    async with host() as shops:
        said = [(await shop.get()).said for shop in shops.shops for _ in range(2)]
        assert said == ["fwd=uri-miss; stored", "hit", "hit", "hit", "hit", "hit"]
        assert shops.calls == 1


async def test_it_is_as_old_there_as_it_is() -> None:
    async with host(Say(headers=[(b"cache-control", b"max-age=10"), (b"age", b"3")])) as shops:
        await shops.shops[0].get()
        await asyncio.sleep(5)
        visit = await shops.shops[1].get()
        assert (visit.header(b"age"), visit.said) == (b"8", "hit")
        await asyncio.sleep(2)
        assert (await shops.shops[2].get()).said != "hit"


async def test_variants_are_told_apart_also_by_who_has_never_seen_one() -> None:
    def say(scope: Scope) -> Say:
        found = dict(scope["headers"]).get(b"accept-language", b"none")
        return Say(headers=[FRESH, (b"vary", b"accept-language")], chunks=[found])

    async with host(say) as shops:
        for shop in shops.shops:
            for language in (b"de", b"fr"):
                assert (await shop.get("/", (b"accept-language", language))).body == language
        assert shops.calls == 2


@pytest.mark.parametrize("after", [None, 0.5])
async def test_a_cold_key_is_asked_for_once_by_all_processes(after: float | None) -> None:
    async with host(Say(wait=1)) as shops:
        visits = [shop.ask() for _ in range(100) for shop in shops.shops]
        if after is not None:
            await asyncio.sleep(after)
            for visit in visits[:3]:
                assert visit.task is not None
                visit.task.cancel()
            visits = visits[3:]
        for visit in visits:
            assert (await visit.done()).body == b"hello"
        assert shops.calls == 1
        assert max(visit.times[-1] for visit in visits) < 1.2


async def test_who_waits_for_another_process_may_be_given_what_is_stale() -> None:
    cached = (b"cache-control", b"max-age=10, stale-if-error=60")
    async with host(Say(headers=[cached]), soft=1.0) as shops:
        for shop in shops.shops:
            await shop.get()
        await asyncio.sleep(15)
        shops.origin.say = Say(headers=[cached], wait=5, chunks=[b"new"])
        first = shops.shops[0].ask()
        await asyncio.sleep(0.1)
        second = await shops.shops[1].get()
        assert (second.body, second.said) == (b"hello", "fwd=stale; collapsed; detail=soft-time-limit")
        assert second.times[-1] - 15 < 1.3
        await first.done()


async def test_what_cannot_be_stored_keeps_nobody_waiting_for_a_lease() -> None:
    async with host(Say(headers=[(b"cache-control", b"no-store")], wait=1)) as shops:
        visits = [shop.ask() for shop in shops.shops]
        for visit in visits:
            await visit.done()
        assert shops.calls == 3
        assert max(visit.times[-1] for visit in visits) < 3.5


async def test_a_fill_that_fails_gives_its_lease_back() -> None:
    async with host(Say(wait=1, refuses=ValueError("no"))) as shops:
        first = shops.shops[0].ask()
        await asyncio.sleep(0.5)
        shops.origin.say = Say()
        second = shops.shops[1].ask()
        assert isinstance(await first.failed(), ValueError)
        assert (await second.done()).body == b"hello"
        assert second.times[-1] < 1.3


async def test_who_gives_up_while_the_store_is_asked_leaves_the_key_to_others() -> None:
    async with host(latency=0.01) as shops:
        first = shops.shops[0].ask()
        await asyncio.sleep(0.045)  # the store has been opened, and has granted the lease
        assert first.task is not None
        first.task.cancel()
        await asyncio.wait([first.task])
        assert (await shops.shops[1].get()).times[-1] < 0.3


async def test_of_all_processes_one_renews_what_is_stale() -> None:
    cached = (b"cache-control", b"max-age=10, stale-while-revalidate=60")
    async with host(Say(headers=[cached])) as shops:
        for shop in shops.shops:
            await shop.get()
        await asyncio.sleep(15)
        shops.origin.say = Say(headers=[cached], wait=1, chunks=[b"new"])
        visits = [await shop.get() for shop in shops.shops]
        assert {visit.body for visit in visits} == {b"hello"}
        await asyncio.sleep(2)
        assert shops.calls == 2
        await asyncio.sleep(1)
        assert (await shops.shops[0].get()).body == b"new"


async def test_what_another_has_signed_with_another_secret_is_not_read() -> None:
    server, origin = SimulatedServer(), Origin()
    shops = [Shop(origin, store=SimulatedStore(server), secrets=(secret,)) for secret in (b"one", b"other")]
    for shop in shops:
        assert (await shop.get()).body == b"hello"
        await turns()
    assert origin.calls == 2
    assert [event.reason for event in shops[1].events if isinstance(event, Unreadable)] == ["forged"]
    for shop in shops:
        assert shop.engine.depot is not None
        await shop.engine.depot.aclose()


async def test_closing_does_not_wait_for_a_store_that_does_not_answer() -> None:
    async with host(count=1) as shops:
        shops.server.freeze()
        shop = shops.shops[0]
        assert (await shop.get()).body == b"hello"
        assert shop.engine.depot is not None
        await shop.engine.depot.aclose()


# -- what is cut -----------------------------------------------------------------------------------------------------


async def test_what_one_process_cuts_no_other_gives_out() -> None:
    async with host() as shops:
        for shop in shops.shops:
            await shop.get()
        await shops.shops[0].engine.invalidate([TAG])
        await asyncio.sleep(0.01)
        shops.origin.say = Say(chunks=[b"new"])
        assert [(await shop.get()).body for shop in shops.shops] == [b"new"] * 3
        assert shops.calls == 2


async def test_a_fill_that_began_before_the_cut_of_another_process_is_used_by_nobody_after_it() -> None:
    async with host(Say(wait=1)) as shops:
        old = shops.shops[0].ask()
        await asyncio.sleep(0.5)
        shops.origin.say = Say(chunks=[b"new"])
        await shops.shops[1].engine.invalidate([TAG])
        await asyncio.sleep(0.01)
        joined = shops.shops[0].ask()
        await old.done()
        assert (await joined.done()).body == b"new"
        assert [(await shop.get()).body for shop in shops.shops] == [b"new"] * 3


async def test_what_was_cut_softly_elsewhere_is_served_while_one_renews_it() -> None:
    async with host() as shops:
        for shop in shops.shops:
            await shop.get()
        await shops.shops[0].engine.invalidate([TAG], soft=True)
        await asyncio.sleep(0.01)
        shops.origin.say = Say(wait=1, chunks=[b"new"])
        assert [(await shop.get()).body for shop in shops.shops] == [b"hello"] * 3
        await asyncio.sleep(2)
        assert shops.calls == 2


async def test_everything_is_cut_everywhere() -> None:
    async with host() as shops:
        for shop in shops.shops:
            await shop.get()
        await shops.shops[0].engine.clear()
        await asyncio.sleep(0.01)
        await shops.shops[1].get()
        assert shops.calls == 2


HELD_BACK = "fwd=uri-miss; detail=invalidated"


async def test_a_change_is_cut_when_it_is_over_also_if_its_process_dies_in_between() -> None:
    async with host() as shops:
        for shop in shops.shops:
            await shop.get()
        async with shops.shops[0].engine.mutation((TAG,)):
            await asyncio.sleep(1)
            assert [(await shops.shops[1].get()).said for _ in range(2)] == [HELD_BACK, HELD_BACK]
        await asyncio.sleep(0.01)
        assert [(await shops.shops[1].get()).said for _ in range(2)] == ["fwd=uri-miss; stored", "hit"]
        dying = shops.shops[0].engine.mutation((TAG,))
        await dying.__aenter__()
        await shops.shops[0].engine.background.aclose()
        await asyncio.sleep(HELD - 1)
        assert [(await shops.shops[1].get()).said for _ in range(2)] == [HELD_BACK, HELD_BACK]
        await asyncio.sleep(1.1)
        assert [(await shops.shops[1].get()).said for _ in range(2)] == ["fwd=uri-miss; stored", "hit"]
        await dying.__aexit__(None, None, None)


async def test_a_change_that_takes_long_is_cut_also_if_its_process_dies_after_it() -> None:
    async with host(count=2) as shops:
        one, other = shops.shops
        begun = one.engine.mutation((TAG,))
        await begun.__aenter__()
        await asyncio.sleep(HELD * 2.1)
        assert (await other.get()).body == b"hello"
        shops.origin.say = Say(chunks=[b"new"])  # the change, and the end of the process
        await one.engine.background.aclose()
        await asyncio.sleep(HELD + 1)
        assert (await other.get()).body == b"new"
        await begun.__aexit__(None, None, None)


async def test_a_cut_that_was_asked_for_is_made_whoever_goes_away() -> None:
    async with host(count=2) as shops:
        one = shops.shops[0]
        for shop in shops.shops:
            await shop.get()
        shops.origin.say = Say(chunks=[b"new"])
        for turn in range(3):
            asking = asyncio.create_task(one.engine.invalidate([TAG]))
            await turns(turn)
            asking.cancel()
            await asyncio.sleep(0.1)
            assert asking.cancelled()
            for shop in shops.shops:
                assert (await shop.get()).body == (b"new" if turn else b"hello"), "cancelled before its first step"


async def test_a_cut_that_was_asked_for_at_the_very_end_is_made() -> None:
    async with host(count=2) as shops:
        one, other = shops.shops
        await other.get()
        await one.get()
        one.engine.invalidate_now([TAG])
        await one.engine.background.aclose()
        await asyncio.sleep(0.1)
        assert (await other.get()).said != "hit"


async def test_a_cut_of_which_the_answer_comes_from_a_log_that_is_over_is_made_in_the_new_one() -> None:
    async with host(count=2) as shops:
        one, other = shops.shops
        await one.get()
        asking = asyncio.create_task(one.engine.invalidate([TAG]))
        await asyncio.sleep(0.0015)  # it was made, and the answer is on its way
        assert TAG in shops.server.space("tiercel").hard
        shops.server.restart()
        one.engine.stamps.reset(0)  # as the tail does, which has heard of it already
        cut = await asking
        assert shops.server.space("tiercel").hard[TAG] == one.engine.stamps.shared(cut)
        await other.get()


# -- outages ---------------------------------------------------------------------------------------------------------


async def test_a_frozen_store_costs_one_deadline_and_then_nothing() -> None:
    async with host(count=1) as shops:
        shop, loop = shops.shops[0], asyncio.get_running_loop()
        await shop.get("/warm")
        shops.server.freeze()
        await asyncio.sleep(2)
        took: list[float] = []
        for number in range(10):
            began = loop.time()
            assert (await shop.get(f"/{number}")).body == b"hello"
            took.append(loop.time() - began)
        assert max(took) <= 0.06
        assert took[FAILURES:] == [0.0] * (10 - FAILURES)


async def test_trouble_is_logged_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    async with host(count=1) as shops:
        shops.server.refuses = True
        for number in range(5):
            await shops.shops[0].get(f"/{number}")
            await asyncio.sleep(1)
        shops.server.refuses = False
        await asyncio.sleep(1)
        await shops.shops[0].get("/5")
    said = [record.getMessage() for record in caplog.records if record.name == "tiercel"]
    assert len(said) == 2
    assert said[0].startswith("The shared store does not do what it is asked to: the simulated server refuses.")
    assert said[1] == "The shared store does again what it is asked to."


async def test_a_store_that_is_back_is_used_again_within_a_second() -> None:
    async with host(count=2) as shops:
        one, other = shops.shops
        shops.server.freeze()
        for number in range(10):
            await one.get(f"/{number}")
            await asyncio.sleep(1)
        shops.server.thaw()
        await asyncio.sleep(LONGEST)
        await one.get("/probe")
        await asyncio.sleep(0.1)
        await one.get("/back")
        await asyncio.sleep(0.1)
        assert (await other.get("/back")).said == "hit"


async def test_while_a_store_is_left_alone_one_tries_it() -> None:
    async with host(count=1) as shops:
        shop = shops.shops[0]
        shops.server.freeze()
        for number in range(FAILURES):
            await shop.get(f"/{number}")
        await asyncio.sleep(REST * 1.1)
        visits = [shop.ask(f"/more/{number}") for number in range(20)]
        for visit in visits:
            await visit.done()
        slow = [visit for visit in visits if visit.times[0] - visits[-1].times[0] > 0.01]
        assert len(slow) <= 1


async def test_a_store_that_refuses_is_a_miss_and_an_event() -> None:
    async with host(count=1) as shops:
        shop = shops.shops[0]
        await shop.get()
        shops.server.refuses = True
        await asyncio.sleep(2)
        assert (await shop.get("/other")).body == b"hello"
        assert any(isinstance(event, Failed) and event.where == "store" for event in shop.events)


async def test_without_acknowledgement_there_is_no_silence_and_it_is_made_up_for() -> None:
    async with host() as shops:
        one, other, _ = shops.shops
        for shop in shops.shops:
            await shop.get()
        shops.server.refuses = True
        with pytest.raises(NotAcknowledged, match=f"{TAG}: invalidated in this process, but the store"):
            await one.engine.invalidate([TAG])
        shops.origin.say = Say(chunks=[b"new"])
        assert (await one.get()).body == b"new", "here it is done"
        shops.server.refuses = False
        await asyncio.sleep(1)
        assert (await other.get()).body == b"new", "nobody had to ask for it"


async def test_a_lease_that_could_not_be_given_back_is_given_back_when_the_store_is_there_again() -> None:
    async with host(count=2) as shops:
        one, other = shops.shops
        await one.get()  # its put is on its way
        shops.server.refuses = True
        await asyncio.sleep(0.1)
        shops.server.refuses = False
        await asyncio.sleep(1)
        began = asyncio.get_running_loop().time()
        assert (await other.get()).times[-1] - began < 0.1


async def test_who_asks_for_it_is_told_by_the_acknowledgement_that_it_is_not_durable() -> None:
    server = SimulatedServer()
    cache = Cache(SimulatedStore(server), clock=VirtualClock())
    await cache.open()
    assert (await cache.invalidate("products", durable=False)).durable
    server.refuses = True
    assert not (await cache.invalidate("products", durable=False)).durable
    with pytest.raises(NotAcknowledged):
        await cache.invalidate("products")
    await cache.aclose()


async def test_more_invalidations_than_can_wait_become_one_of_everything() -> None:
    async with host(count=2) as shops:
        one, other = shops.shops
        await other.get()
        shops.server.refuses = True
        for number in range(QUEUED + 1):
            with pytest.raises(NotAcknowledged):
                await one.engine.invalidate([f"{number}"])
        shops.server.refuses = False
        await asyncio.sleep(1)
        await other.get()
        assert shops.calls == 2


async def test_what_the_store_has_not_acknowledged_is_cut_here_whatever_is_known() -> None:
    """Values in memory, those on their way from the store, and calls that run."""
    server = SimulatedServer(latency=0.001)
    one, other = (Cache(SimulatedStore(server), clock=VirtualClock()) for _ in range(2))
    state, go = ["old"], asyncio.Event()

    async def read() -> str:
        found = state[0]
        if found == "old":
            await go.wait()
        return found

    read.__qualname__ = "read"
    function = one.memoize(ttl=60, tags="t")(read)
    await other.set("there", "old", ttl=60, tags="t")
    assert await one.get("there") == "old"
    await one.set("here", "old", ttl=60, tags="t")
    running = asyncio.create_task(function())
    await asyncio.sleep(0.1)
    server.refuses = True
    state[0] = "new"
    with pytest.raises(NotAcknowledged):
        await one.invalidate("t")
    assert await one.get("here") is None
    assert await one.get("there") is None
    assert await one.get_or_set("here", lambda: "new", ttl=60, tags="t") == "new"
    assert await function() == "new"
    go.set()
    assert await running == "old", "asked before"
    assert await function() == "new"
    server.refuses = False
    for cache in (one, other):
        await cache.aclose()


class Slow(SimulatedStore):
    """What was found takes its time to get here; what was cut even more."""

    def _follows(self, log: Log, cuts: list[Cut], head: int, *, gap: bool) -> None:
        asyncio.get_running_loop().call_later(1, lambda: super(Slow, self)._follows(log, cuts, head, gap=gap))

    async def fetch(self, ask: Ask) -> Found:
        found = await super().fetch(ask)
        await asyncio.sleep(0.1)
        return found


async def test_what_comes_from_the_store_after_a_cut_that_it_does_not_know_is_not_used() -> None:
    server = SimulatedServer()
    one, other = Cache(Slow(server), clock=VirtualClock(), store_timeout=1), Cache(SimulatedStore(server))
    await one.open()
    for number in range(5):
        await other.invalidate(f"other {number}")
    await other.set("there", "old", ttl=60, tags="t")
    coming = asyncio.create_task(one.get("there"))
    await asyncio.sleep(0.05)
    server.refuses = True
    with pytest.raises(NotAcknowledged):
        await one.invalidate("t")
    assert await coming is None
    server.refuses = False
    await asyncio.sleep(2)
    assert await other.get("there") is None, "it was told"
    for cache in (one, other):
        await cache.aclose()


async def test_nobody_joins_what_began_before_a_cut_that_was_not_acknowledged() -> None:
    async with host(Say(wait=0.5, headers=[FRESH, (b"cache-groups", b'"shoes"')]), count=1) as shops:
        (shop,) = shops.shops
        for number, tag in enumerate((TAG, group_tag("http", b"shop", "shoes"))):
            before = shops.calls
            shops.server.refuses = False
            await asyncio.sleep(2)
            first = shop.ask("/" if number == 0 else "/other")
            await asyncio.sleep(0.1)
            shops.server.refuses = True
            with pytest.raises(NotAcknowledged):
                await shop.engine.invalidate([tag])
            await shop.get("/" if number == 0 else "/other")
            await first.done()
            assert shops.calls == before + 2, tag


async def test_calls_wait_for_one_together_also_after_a_cut_that_was_not_acknowledged() -> None:
    server, called = SimulatedServer(), list[int]()
    cache = Cache(SimulatedStore(server), clock=VirtualClock())

    @cache.memoize(ttl=60, tags="t")
    async def read() -> int:
        called.append(1)
        await asyncio.sleep(0.5)
        return 1

    await cache.open()
    server.refuses = True
    with pytest.raises(NotAcknowledged):
        await cache.invalidate("t")
    await asyncio.gather(*[read() for _ in range(20)])
    assert len(called) == 1
    await cache.aclose()


def test_a_cut_that_was_asked_for_when_the_loop_ended_is_not_forgotten() -> None:
    cache = Cache(SimulatedStore(SimulatedServer()), clock=VirtualClock())

    async def begun() -> None:
        await cache.open()
        asyncio.get_running_loop().call_soon(asyncio.create_task, cache.invalidate("t"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    run_virtual(begun())
    assert cache.engine.depot is not None
    assert [one.tags for one in cache.engine.depot.cuts._queued] == [("t",)]


async def test_callers_wait_for_one_call_together_also_after_a_cut_that_was_not_acknowledged() -> None:
    async with host(Say(wait=0.5), count=1) as shops:
        shop = shops.shops[0]
        shops.server.refuses = True
        with pytest.raises(NotAcknowledged):
            await shop.engine.invalidate([TAG])
        for visit in [shop.ask() for _ in range(20)]:
            await visit.done()
        assert shops.calls == 1


async def test_what_waits_is_told_together_and_in_order() -> None:
    async with host(count=2) as shops:
        one, other = shops.shops
        await one.engine.invalidate(["0"])
        shops.server.refuses = True
        kinds = [False] * (TOGETHER + 50) + [True] * 3 + [False]
        for number, soft in enumerate(kinds):
            with pytest.raises(NotAcknowledged):
                await one.engine.invalidate([f"{number}"], soft=soft)
        with pytest.raises(NotAcknowledged):
            await one.engine.clear()
        shops.server.refuses = False
        await asyncio.sleep(1)
        records = shops.server.space("tiercel").records[1:]
        assert [(len(one.tags), one.soft) for one in records] == [
            (100, False),
            (50, False),
            (3, True),
            (1, False),
            (0, False),
        ]
        assert [tag for one in records for tag in one.tags] == [f"{number}" for number in range(len(kinds))]
        await other.get()


async def test_who_ends_tells_the_store_what_still_waits_or_says_that_it_cannot(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with host(count=2) as shops:
        one, other = shops.shops
        for shop in shops.shops:
            await shop.get()
        shops.server.refuses = True
        with pytest.raises(NotAcknowledged):
            await one.engine.invalidate([TAG])
        shops.server.refuses = False
        assert one.engine.depot is not None
        await one.engine.background.aclose()
        await one.engine.depot.aclose()
        await asyncio.sleep(0.1)
        assert (await other.get()).said != "hit"
        shops.server.refuses = True
        with pytest.raises(NotAcknowledged):
            await other.engine.invalidate([TAG])
        assert other.engine.depot is not None
        await other.engine.depot.aclose()
        assert "1 invalidations end with this process: the store has not taken them." in caplog.text


async def test_a_change_does_not_begin_while_the_store_does_not_answer() -> None:
    async with host(count=1) as shops:
        shops.server.freeze()
        with pytest.raises(NotAcknowledged, match="the change has not begun"):
            async with shops.shops[0].engine.mutation(("a",)):
                pytest.fail("it has begun")


async def test_memory_is_not_trusted_for_longer_than_delta_without_proof() -> None:
    async with host(count=1) as shops:
        shop = shops.shops[0]
        await shop.get()
        shops.server.freeze()
        await asyncio.sleep(0.5)
        assert (await shop.get()).said == "hit"
        await asyncio.sleep(1.1)
        assert (await shop.get()).said != "hit"


# -- stores that can less --------------------------------------------------------------------------------------------


class Plain:
    """Keeps the contract, and nothing beyond: it tells nobody of cuts."""

    def __init__(self, server: SimulatedServer) -> None:
        self._inner = SimulatedStore(server)
        self.running = self._inner.running
        self.put = self._inner.put
        self.append = self._inner.append

    async def fetch(self, ask: Ask) -> Found:
        return await self._inner.fetch(ask)


async def test_a_store_that_tells_nobody_of_cuts_is_asked_each_time() -> None:
    server, origin = SimulatedServer(), Origin()
    shops = [Shop(origin, store=Plain(server)) for _ in range(2)]
    for shop in shops:
        assert (await shop.get()).body == b"hello"
        await turns()
    before = server.asked
    assert [(await shop.get()).said for shop in shops] == ["hit", "hit"]
    assert server.asked >= before + 2
    await shops[0].engine.invalidate([TAG])
    assert (await shops[1].get()).said != "hit"
    async with shops[0].engine.mutation((TAG,)):
        pass
    assert await shops[0].engine.applied(1) == ()
    for shop in shops:
        assert shop.engine.depot is not None
        await shop.engine.depot.aclose()


def test_what_selects_is_offered_by_name() -> None:
    offered = keys.offered([(b"host", b"shop"), (b"accept", b"a"), (b"range", b"bytes=0-")])
    assert set(offered) == {b"accept", b"*"}


# -- several loops, and callers that go away ---------------------------------------------------------------------------


async def test_a_lease_that_nobody_is_left_to_take_is_given_back() -> None:
    async with host(Say(wait=0.1), count=2, latency=0.02) as shops:
        one, other = shops.shops
        await one.get("/warm")
        asked = one.ask("/")
        await asyncio.sleep(0.03)
        assert asked.task is not None
        asked.task.cancel()
        await asyncio.sleep(0.2)
        began = asyncio.get_running_loop().time()
        assert (await other.get("/")).body == b"hello"
        assert asyncio.get_running_loop().time() - began < 0.5


async def test_of_two_who_want_the_lease_the_one_who_stays_gets_it() -> None:
    async with host(Say(wait=0.1), count=2, latency=0.02) as shops:
        one, other = shops.shops
        for shop in shops.shops:
            await shop.get("/warm")
        calls = shops.calls
        gone, stays = one.ask("/"), one.ask("/")
        await asyncio.sleep(0.03)
        assert gone.task is not None
        gone.task.cancel()
        assert (await stays.done()).body == b"hello"
        await asyncio.sleep(0.1)
        assert (await other.get("/")).said == "hit"
        assert shops.calls == calls + 1


class Counting(SimulatedStore):
    """Counts what it is asked for."""

    fetches = 0

    async def fetch(self, ask: Ask) -> Found:
        self.fetches += 1
        return await super().fetch(ask)


async def test_of_all_who_wait_for_another_process_one_looks() -> None:
    async with host(Say(wait=1), count=1) as shops:
        store = Counting(shops.server)
        shops.shops.append(Shop(shops.origin, store=store))
        one, other = shops.shops
        first = one.ask()
        await asyncio.sleep(0.1)
        visits: list[Visit] = []
        for _ in range(20):
            visits.append(other.ask())
            await asyncio.sleep(0.02)
        for visit in (first, *visits):
            assert (await visit.done()).body == b"hello"
        assert shops.calls == 1
        assert store.fetches < 20 + 30, "each asks once when it comes; then one asks, every 50 ms, for all"


async def test_when_nobody_waits_any_more_nobody_looks() -> None:
    async with host(Say(wait=10), count=1) as shops:
        store = Counting(shops.server)
        shops.shops.append(Shop(shops.origin, store=store))
        one, other = shops.shops
        first = one.ask()
        await asyncio.sleep(0.1)
        visits = [other.ask() for _ in range(3)]
        await asyncio.sleep(1)
        for visit in visits:
            assert visit.task is not None
            visit.task.cancel()
        await asyncio.sleep(0.1)
        looks = store.fetches
        await asyncio.sleep(5)
        assert store.fetches == looks
        await first.done()


async def test_who_waits_for_another_process_when_the_store_freezes_asks_the_application() -> None:
    async with host(Say(wait=1), count=2) as shops:
        one, other = shops.shops
        first = one.ask()
        await asyncio.sleep(0.1)
        visits = [other.ask() for _ in range(5)]
        await asyncio.sleep(0.1)
        shops.server.freeze()
        for visit in visits:
            assert (await visit.done()).body == b"hello"
            assert 1.1 < visit.times[-1] < 1.5
        assert shops.calls == 2
        await first.done()


async def test_what_asks_the_store_may_be_cancelled_before_it_begins() -> None:
    async with host(count=1) as shops:
        (shop,) = shops.shops
        await shop.get("/warm")
        asked = shop.ask("/")
        await turns(3)
        for task in list(shop.engine.background._tasks):
            task.cancel()
        assert (await asked.done()).body == b"hello"
        assert (await shop.get("/")).body == b"hello"


async def test_an_invalidation_from_code_that_cannot_wait_is_done_here_at_once() -> None:
    async with host(count=2) as shops:
        one, other = shops.shops
        for shop in shops.shops:
            await shop.get()
        one.engine.invalidate_now([TAG])
        assert (await one.get()).said.startswith("fwd=uri-miss")
        await asyncio.sleep(0.1)
        assert (await other.get()).said != "hit" or shops.calls == 2


async def test_to_invalidate_nothing_is_nothing() -> None:
    async with host(count=1) as shops:
        (shop,) = shops.shops
        await shop.get()
        await shop.engine.invalidate([])
        async with shop.engine.mutation(()):
            pass
        assert (await shop.get()).said == "hit"


@pytest.mark.realtime
async def test_a_second_loop_of_the_process_may_change_things_and_takes_the_store_from_nobody(tmp_path: Path) -> None:
    cache = Cache(f"local://{tmp_path}", store_timeout=5)
    await cache.open()
    await cache.set("limit", 1, ttl=60, tags="x")

    async def changed() -> None:
        assert (await cache.invalidate("x", wait="all")).durable
        for _ in range(FAILURES + 1):
            async with cache.mutation("x"):
                assert cache.engine.stamps.is_held(["x"])
            assert not cache.engine.stamps.is_held(["x"])
        await cache.write_through("written", 3, _written, ttl=60)

    await asyncio.to_thread(asyncio.run, changed())
    assert await cache.get("limit") is None
    assert await cache.get("written") == 3
    await cache.aclose()


async def _written(value: object) -> None:
    del value


@pytest.mark.realtime
async def test_that_another_loop_cannot_ask_the_store_is_no_reason_to_leave_it_alone(tmp_path: Path) -> None:
    failed = Failures()
    cache = Cache(f"local://{tmp_path}", store_timeout=5, observers=[failed])
    await cache.open()

    async def asked() -> None:
        for number in range(FAILURES + 1):
            assert await cache.get(f"number {number}") is None

    await asyncio.to_thread(asyncio.run, asked())
    assert any("another event loop" in str(error) for error in failed.errors)
    assert (await cache.invalidate("x")).durable
    await cache.aclose()


class Failures:
    """What was told."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []

    def on_event(self, event: Event) -> None:
        if isinstance(event, Failed):
            self.errors.append(event.error)


class Noting(SimulatedStore):
    """Knows in which loops it was asked."""

    loops: list[asyncio.AbstractEventLoop]
    several: Callable[[], object]

    async def hold(self, tags: Any, seconds: float) -> bytes:
        self.loops.append(asyncio.get_running_loop())
        if len(self.loops) == 4:
            self.several()
        return await super().hold(tags, seconds)

    async def applied(self, cut: int, within: float) -> tuple[str, ...]:
        del cut, within
        self.loops.append(asyncio.get_running_loop())
        return ("one",)


@pytest.mark.realtime
async def test_a_change_in_a_second_loop_is_lengthened_in_that_of_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "HELD", 0.0)
    server = SimulatedServer()
    store = Noting(server)
    store.loops = []
    cache = Cache(store, store_timeout=5)
    await cache.open()

    async def changed() -> None:
        several = asyncio.Event()
        store.several = partial(asyncio.get_running_loop().call_soon_threadsafe, several.set)
        async with cache.mutation("x"):
            await several.wait()
        assert (await cache.invalidate("x", wait="all")).applied == ("one",)

    await asyncio.to_thread(asyncio.run, changed())
    assert set(store.loops) == {asyncio.get_running_loop()}
    await asyncio.sleep(0)
    assert not server.space("tiercel").holds
    assert not cache.engine.stamps.is_held(["x"])
    await cache.aclose()


@pytest.mark.realtime
async def test_a_change_in_a_second_loop_that_is_cancelled_at_its_end_is_told_all_the_same(tmp_path: Path) -> None:
    """Also where the loop of the store has not heard of it yet."""
    cache = Cache(f"local://{tmp_path}", store_timeout=5)
    await cache.open()
    serving, stands, ended = asyncio.get_running_loop(), threading.Event(), threading.Event()

    def stand_still() -> None:
        stands.set()
        ended.wait()

    async def changed() -> None:
        async with cache.mutation("x"):
            serving.call_soon_threadsafe(stand_still)
            stands.wait()
            change = asyncio.current_task()
            assert change is not None
            asyncio.get_running_loop().call_soon(change.cancel)

    async def cancelled() -> None:
        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(changed())
        ended.set()

    await asyncio.to_thread(asyncio.run, cancelled())
    await cache.engine.background.aclose()
    assert not cache.engine.stamps.is_held(["x"])
    await cache.aclose()


@pytest.mark.realtime
async def test_a_thread_that_invalidates_while_the_loop_is_busy_hears_no_timeout(tmp_path: Path) -> None:
    cache = Cache(f"local://{tmp_path}", store_timeout=0.01)
    await cache.open()
    await cache.set("limit", 1, ttl=60, tags="x")
    thread = threading.Thread(target=cache.engine.invalidate_now, args=(["x"],))
    thread.start()
    time.sleep(0.1)  # noqa: ASYNC251 - the loop is busy
    assert await cache.get("limit") is None
    await asyncio.to_thread(thread.join)
    await cache.aclose()


@pytest.mark.realtime
@pytest.mark.parametrize("awaits", [True, False])
def test_no_invalidation_is_lost_with_the_loop_that_has_the_store_open(tmp_path: Path, *, awaits: bool) -> None:
    """Its last turn is a busy one: what it is handed meanwhile never begins."""
    cache, begun = Cache(f"local://{tmp_path}"), threading.Event()

    async def first() -> None:
        await cache.set("limit", 1, ttl=60, tags="x")
        begun.set()
        time.sleep(0.3)  # noqa: ASYNC251 - as described

    def invalidate() -> None:
        begun.wait()
        if awaits:
            asyncio.run(acknowledged())
        else:
            cache.engine.invalidate_now(["x"])

    async def acknowledged() -> None:
        with suppress(NotAcknowledged):  # it may come while that loop is not over yet
            await cache.invalidate("x")
        await cache.aclose()

    async def looked(at: Cache) -> object:
        try:
            return await at.get("limit")
        finally:
            await at.aclose()

    thread = threading.Thread(target=invalidate)
    thread.start()
    asyncio.run(first())
    thread.join()
    assert asyncio.run(looked(cache)) is None
    assert asyncio.run(looked(Cache(f"local://{tmp_path}"))) is None


@pytest.mark.realtime
def test_threads_of_a_program_without_an_event_loop_tell_the_store_at_once(tmp_path: Path) -> None:
    one, other = Cache(f"local://{tmp_path}"), Cache(f"local://{tmp_path}")

    async def known(value: int | None) -> None:
        for number in range(8):
            if value is not None:
                await other.set(f"limit {number}", value, ttl=60, tags=f"x{number}")
            assert await other.get(f"limit {number}") == value

    async def told() -> None:
        await known(1)
        threads = [threading.Thread(target=one.engine.invalidate_now, args=([f"x{number}"],)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        await asyncio.sleep(1.1)
        await known(None)
        await other.aclose()

    asyncio.run(told())


@pytest.mark.realtime
def test_a_program_without_an_event_loop_says_what_its_store_has_not_taken(caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache("redis://127.0.0.1:1")  # nobody listens there
    cache.engine.invalidate_now(["x"])
    assert "1 invalidations are lost if this process ends" in caplog.text


async def test_nothing_is_said_to_be_kept_for_longer_than_a_store_can_count() -> None:
    async with host(Say(headers=[(b"cache-control", b"max-age=2147483648, stale-if-error=99999999999999")])) as shops:
        one, other, _ = shops.shops
        await one.get()
        await turns()
        assert (await other.get()).said == "hit"
