"""What is about to be changed: neither used nor kept, and waited for by nobody, until the change is over."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from drive import FRESH, Origin, Say, Shop
from hypothesis import given
from hypothesis import strategies as st

from tiercel import Cache
from tiercel._core.keys import uri_tag
from tiercel._engine.engine import KEPT_BACK
from tiercel._engine.stamps import Stamps, Verdict
from tiercel._engine.telling import HELD
from tiercel.errors import NotAcknowledged
from tiercel.spi import Cut
from tiercel.testing import SimulatedServer, SimulatedStore, VirtualClock, run_virtual

TAG = uri_tag("http", b"shop", b"/")
HELD_BACK = "fwd=uri-miss; detail=invalidated"
LASTING = (b"cache-control", b"max-age=60, stale-while-revalidate=600, stale-if-error=600")
CALLERS = 20

# -- the log -----------------------------------------------------------------------------------------------------------


def test_what_is_held_is_unusable_whenever_it_was_made_and_cut_when_it_is_released() -> None:
    stamps = Stamps()
    hold = stamps.hold(("a", "b"))
    for born in (0, hold, hold + 7):
        assert stamps.verdict(["x", "a"], born) is Verdict.CUT
        assert stamps.verdict(["x"], born) is Verdict.USABLE
        assert born < stamps.newest
    stamps.cut(["x"])
    assert stamps.position < stamps.newest
    cut = stamps.release(hold, ("a", "b"))
    assert stamps.verdict(["a"], cut - 1) is Verdict.CUT
    assert stamps.verdict(["a"], cut) is Verdict.USABLE
    assert cut == stamps.position == stamps.newest


def test_whoever_reads_a_revision_finds_that_a_hold_has_moved_it() -> None:
    stamps = Stamps()
    seen = [stamps.revision]
    hold = stamps.hold(("a",))
    seen.append(stamps.revision)
    stamps.release(hold, ("a",))
    assert len({*seen, stamps.revision}) == 3


records = st.lists(
    st.tuples(st.sampled_from(["hold", "release", "cut", "clear", "again"]), st.sampled_from("abc"), st.integers(0, 5)),
    max_size=14,
)


@given(records)
def test_a_tag_is_held_while_anybody_holds_it_and_then_cut(given_: list[tuple[str, str, int]]) -> None:
    """Against a log that is read from its beginning each time."""
    stamps, log = Stamps(), list[Cut]()
    for what, tag, which in given_:
        holds = [cut for cut in log if cut.holds]
        last = len(log) + 1
        match what:
            case "hold":
                log.append(Cut(id=last, tags=(tag, "d"), holds=True))
            case "release" if holds:
                hold = holds[which % len(holds)]
                log.append(Cut(id=last, tags=hold.tags, releases=hold.id))
            case "clear":
                log.append(Cut(id=last, tags=()))
            case "again" if log:  # as the log tells of what was our own, and has been applied
                stamps.apply(log[which % len(log) :], len(log))
                continue
            case _:
                log.append(Cut(id=last, tags=(tag,)))
        stamps.apply(log[-1:], len(log))
    over = {cut.releases for cut in log}
    open_ = [cut for cut in log if cut.holds and cut.id not in over]
    for name in "abcd":
        for born in range(len(log) + 1):
            cut = any(one.id > born and (not one.tags or name in one.tags) for one in log)
            held = any(name in one.tags for one in open_)
            assert (stamps.verdict([name], born) is Verdict.CUT) == (cut or held)
        assert stamps.is_held(["x", name]) is any(name in one.tags for one in open_)
    assert stamps.newest == (float("inf") if open_ else len(log))


def test_what_was_released_here_is_not_held_again_when_the_log_tells_of_it() -> None:
    stamps = Stamps()
    stamps.apply([Cut(id=2, tags=("a",), holds=True)], 2)  # our own, before another's that came first
    stamps.apply([Cut(id=3, tags=("a",), releases=2)], 3)
    stamps.apply([Cut(id=1, tags=("b",)), Cut(id=2, tags=("a",), holds=True)], 2)
    assert stamps.verdict(["a"], 3) is Verdict.USABLE


def test_a_reset_forgets_what_is_held_and_clearing_does_not() -> None:
    stamps = Stamps()
    stamps.apply([Cut(id=1, tags=("a",), holds=True)], 1)
    stamps.clear()
    assert stamps.is_held(["a"])
    stamps.reset(9)
    assert not stamps.is_held(["a"])
    assert stamps.newest == stamps.position
    stamps.apply([Cut(id=4, tags=("a",), holds=True)], 9)  # the store tells which are not over
    assert stamps.verdict(["a"], stamps.position) is Verdict.CUT
    stamps.apply([Cut(id=10, tags=("a",), releases=4)], 10)
    assert stamps.verdict(["a"], stamps.position) is Verdict.USABLE


# -- responses and values ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def shops(say: Any, *, count: int = 2) -> AsyncGenerator[tuple[SimulatedServer, Origin, list[Shop]]]:
    server, origin = SimulatedServer(latency=0.001), Origin(say)
    made = [Shop(origin, store=SimulatedStore(server)) for _ in range(count)]
    try:
        yield server, origin, made
    finally:
        server.refuses = False
        for shop in made:
            await shop.engine.background.aclose()
            assert shop.engine.depot is not None
            await shop.engine.depot.aclose()


@pytest.fixture(params=["alone", "shared"])
def shop(request: pytest.FixtureRequest) -> Callable[[Any], Shop]:
    store = SimulatedStore(SimulatedServer(latency=0.001)) if request.param == "shared" else None
    return lambda say: Shop(say, store=store)


async def test_what_is_stored_is_not_served_while_it_is_changed_not_even_stale(shop: Callable[[Any], Shop]) -> None:
    one = shop(Say(headers=[LASTING]))
    await one.get()
    async with one.engine.mutation((TAG,)):
        one.origin.say = Say(status=503, headers=[LASTING])
        assert (await one.get()).status == 503
        one.origin.say = Say(refuses=OSError("the database is down"))
        with pytest.raises(OSError, match="the database is down"):
            await one.get()
        one.origin.say = Say(chunks=[b"new"])
        assert [(await one.get()).said for _ in range(2)] == [HELD_BACK, HELD_BACK]
    assert [(await one.get()).said for _ in range(2)] == ["fwd=uri-miss; stored", "hit"]


async def test_what_is_stale_is_not_renewed_behind_the_reply_while_it_is_changed(shop: Callable[[Any], Shop]) -> None:
    one = shop(Say(headers=[LASTING]))
    await one.get()
    await asyncio.sleep(100)
    async with one.engine.mutation((TAG,)):
        one.origin.say = Say(chunks=[b"new"])
        assert (await one.get()).body == b"new"


async def test_nobody_joins_a_fill_of_what_is_held_who_comes_after_the_hold(shop: Callable[[Any], Shop]) -> None:
    one = shop(Say(wait=1.0))
    async with one.engine.mutation((TAG,)):
        early = one.ask("/")
        await asyncio.sleep(0.5)
        one.origin.say = Say(chunks=[b"new"])
        assert (await one.get()).body == b"new"
        assert (await early.done()).body == b"hello"


async def test_who_joined_before_the_hold_rides_to_the_end(shop: Callable[[Any], Shop]) -> None:
    one = shop(Say(wait=1.0))
    riders = [one.ask("/") for _ in range(3)]
    await asyncio.sleep(0.5)
    async with one.engine.mutation((TAG,)):
        assert [(await rider.done()).body for rider in riders] == [b"hello"] * 3
    assert one.calls == 1
    assert (await one.get()).said != "hit"


async def test_requests_for_what_is_held_do_not_queue() -> None:
    """Neither for each other's fills nor for leases."""
    async with shops(Say(wait=1.0)) as (_, origin, (one, other)), one.engine.mutation((TAG,)):
        await asyncio.sleep(0.1)
        began = asyncio.get_running_loop().time()
        asked = [each.ask("/") for each in (one, other) for _ in range(CALLERS)]
        await asyncio.gather(*[visit.done() for visit in asked])
        assert asyncio.get_running_loop().time() - began < 4.5, "one for each process, and one for each caller"
        assert origin.calls == 2 * CALLERS
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*[each.get() for each in (one, other) for _ in range(CALLERS)])
        assert asyncio.get_running_loop().time() - began < 1.1, "that it is held is known by now"


async def test_what_is_not_held_is_joined_stored_and_hit_as_ever(shop: Callable[[Any], Shop]) -> None:
    one = shop(Say(wait=1.0))
    async with one.engine.mutation(("another",)):
        asked = [one.ask("/") for _ in range(CALLERS)]
        await asyncio.gather(*[visit.done() for visit in asked])
        assert one.calls == 1
        assert (await one.get()).said == "hit"


async def test_that_keys_are_held_is_remembered_of_so_many_and_no_longer_than_they_are() -> None:
    engine = Shop().engine
    async with engine.mutation(("a",)):
        for number in range(KEPT_BACK + 1):
            engine.keep_back(number.to_bytes(8), ("a",))
        assert engine.keeps_back(KEPT_BACK.to_bytes(8))
        assert len(engine._kept_back) == 1
        engine.keep_back(b"key", ("b",))
        assert not engine.keeps_back(b"key")
        engine.keep_back(b"key", ("b", "a", *map(str, range(100))))
        assert engine._kept_back[b"key"] == ("a",), "not what does not matter"
    assert not engine.keeps_back(KEPT_BACK.to_bytes(8))
    engine.keep_back(b"key", ("a",))
    assert not engine._kept_back


Load = Callable[[int], Awaitable[int]]


def _loading(cache: Cache, calls: list[int], tags: Any) -> Load:
    async def load(base: int) -> int:
        calls.append(base)
        version = len(calls)
        await asyncio.sleep(1)
        return version

    load.__qualname__ = "load"
    return cache.memoize(ttl=60, stale_while_revalidate=600, stale_if_error=600, tags=tags)(load)


def _rates(_arguments: object, _value: object) -> list[str]:
    return ["rates"]


@pytest.mark.parametrize("tags", ["rates", _rates], ids=["named", "by-value"])
async def test_values_of_functions_are_neither_used_nor_joined_nor_waited_for_while_held(tags: Any) -> None:
    server, calls = SimulatedServer(latency=0.001), list[int]()
    caches = [Cache(SimulatedStore(server), clock=VirtualClock()) for _ in range(2)]
    loads = [_loading(cache, calls, tags) for cache in caches]
    assert [await load(1) for load in loads] == [1, 1]
    async with caches[0].mutation("rates"):
        await asyncio.sleep(0.1)
        began = asyncio.get_running_loop().time()
        found = await asyncio.gather(*[load(1) for load in loads for _ in range(CALLERS)])
        assert 1 not in found
        assert sorted(found) == list(range(2, 2 + 2 * CALLERS))
        assert asyncio.get_running_loop().time() - began < 4.5
    await asyncio.sleep(0.1)
    assert await loads[1](1) == await loads[0](1) == 2 + 2 * CALLERS
    for cache in caches:
        await cache.aclose()


def test_values_of_functions_that_are_not_async_are_neither_used_nor_kept_while_held() -> None:
    async def play() -> None:
        cache, calls = Cache(clock=VirtualClock()), list[int]()

        @cache.memoize(ttl=60, tags="rates")
        def load() -> int:
            calls.append(1)
            return len(calls)

        assert [load(), load()] == [1, 1]
        async with cache.mutation("rates"):
            assert [load(), load()] == [2, 3]
        assert [load(), load()] == [4, 4]

    run_virtual(play())


# -- how long it lasts -------------------------------------------------------------------------------------------------


async def test_a_long_change_is_held_to_its_end_and_no_longer() -> None:
    async with shops(Say()) as (server, _, (one, other)):
        async with one.engine.mutation((TAG,)):
            for _ in range(7):
                await asyncio.sleep(HELD / 2)
                assert (await other.get()).said == HELD_BACK
                assert len(server.space("tiercel").holds) == 1
        assert not server.space("tiercel").holds
        await asyncio.sleep(0.1)
        assert [(await other.get()).said for _ in range(2)] == ["fwd=uri-miss; stored", "hit"]


class Slow(SimulatedStore):
    """To lengthen a hold takes until the change is over."""

    async def release(self, token: bytes, tags: Any) -> int:
        if self.slowly:
            await asyncio.sleep(0.05)
        return await super().release(token, tags)

    slowly = True


async def test_a_change_that_ends_while_its_hold_is_lengthened_leaves_none_behind() -> None:
    server = SimulatedServer(latency=0.001)
    store = Slow(server)
    one = Shop(Say(), store=store, deadline=1.0)
    async with one.engine.mutation((TAG,)):
        await asyncio.sleep(HELD / 3 + 0.02)
        assert len(server.space("tiercel").holds) == 2
        store.slowly = False
    assert not server.space("tiercel").holds
    await one.engine.background.aclose()


@pytest.mark.parametrize("at", range(42))
async def test_a_change_that_ends_at_any_moment_while_it_is_lengthened_leaves_none_behind(at: int) -> None:
    server = SimulatedServer()
    one = Shop(Say(), store=SimulatedStore(server), deadline=1.0)
    await one.engine.invalidate(["x"])
    server.latency = 0.01
    async with one.engine.mutation((TAG,)):
        await asyncio.sleep(HELD / 3 + 0.001 * at)
    assert not server.space("tiercel").holds
    assert not one.engine.stamps.is_held([TAG])
    await asyncio.sleep(1)
    assert not server.space("tiercel").holds
    await one.engine.background.aclose()


async def test_a_cache_that_is_closed_while_a_change_is_lengthened_lets_that_come_to_an_end() -> None:
    server = SimulatedServer()
    one = Shop(Say(), store=SimulatedStore(server), deadline=1.0)
    change = one.engine.mutation((TAG,))
    await change.__aenter__()
    server.latency = 0.01
    await asyncio.sleep(HELD / 3 + 0.015)
    assert len(server.space("tiercel").holds) == 2, "the answer is on its way"
    await one.engine.background.aclose()
    await _over(change)
    assert not server.space("tiercel").holds


class Late(SimulatedStore):
    """The answer to a hold takes its time."""

    async def hold(self, tags: Any, seconds: float) -> bytes:
        token = await super().hold(tags, seconds)
        await asyncio.sleep(0.2)
        return token


@pytest.mark.parametrize("cancelled", [0.05, 0.1, 0.2, None])
async def test_a_change_that_never_begins_leaves_no_hold_behind(cancelled: float | None) -> None:
    """Its caller goes away, or the deadline of the store is over, while the store is about to tell what it holds."""
    server = SimulatedServer()
    one = Shop(Say(), store=Late(server), deadline=0.1 if cancelled is None else 1.0)
    await one.engine.invalidate(["x"])
    begun = asyncio.create_task(one.engine.mutation((TAG,)).__aenter__())
    if cancelled is None:
        with pytest.raises(NotAcknowledged, match="has not begun"):
            await begun
    else:
        await asyncio.sleep(cancelled)
        begun.cancel()
        with pytest.raises(asyncio.CancelledError):
            await begun
    assert len(server.space("tiercel").holds) == 1
    await asyncio.sleep(0.3)
    assert not server.space("tiercel").holds
    assert not one.engine.stamps.is_held([TAG])
    await one.engine.background.aclose()


async def test_a_hold_that_is_lengthened_too_late_is_released_with_the_change_or_after_it() -> None:
    server = SimulatedServer()
    store = Late(server)
    one = Shop(Say(), store=store, deadline=0.3)
    async with one.engine.mutation((TAG,)):
        one.engine.depot.cuts._reach.deadline = 0.1  # type: ignore[union-attr]
        await asyncio.sleep(HELD / 3 + 0.15)
        assert len(server.space("tiercel").holds) == 2, "it is given up; the store is still about to tell"
    assert len(server.space("tiercel").holds) == 1
    await asyncio.sleep(0.3)
    assert not server.space("tiercel").holds
    await one.engine.background.aclose()


async def test_what_a_change_raises_goes_before_what_the_store_has_not_acknowledged() -> None:
    async with shops(Say()) as (server, _, (one, _)):

        async def fails() -> None:
            async with one.engine.mutation((TAG,)):
                server.refuses = True
                message = "no such price"
                raise ValueError(message)

        async def waits() -> None:
            async with one.engine.mutation(("x",)):
                server.refuses = True
                await asyncio.sleep(5)

        with pytest.raises(ValueError, match="no such price"):
            await fails()
        server.refuses = False
        await asyncio.sleep(2)
        change = asyncio.create_task(waits())
        await asyncio.sleep(1)
        change.cancel()
        await asyncio.wait([change])
        assert change.cancelled()
        assert one.engine.stamps.verdict((TAG, "x"), one.engine.stamps.position) is Verdict.CUT
        server.refuses = False


async def test_what_is_written_through_is_stored_however_long_its_writer_takes() -> None:
    cache = Cache(SimulatedStore(SimulatedServer()), clock=VirtualClock())

    async def writer(_: int) -> None:
        await asyncio.sleep(HELD)

    await cache.write_through("limit", 7, writer, ttl="1h")
    assert await cache.get("limit") == 7
    await cache.aclose()


async def test_two_that_change_the_same_hold_it_until_both_are_done() -> None:
    async with shops(Say()) as (_, _, (one, other)):
        first, second = one.engine.mutation((TAG,)), other.engine.mutation((TAG, "b"))
        await first.__aenter__()
        await second.__aenter__()
        await _over(first)
        await asyncio.sleep(0.1)
        assert [(await each.get()).said for each in (one, other)] == [HELD_BACK] * 2
        await _over(second)
        await asyncio.sleep(0.1)
        assert [(await one.get()).said for _ in range(2)] == ["fwd=uri-miss; stored", "hit"]


async def _over(change: AbstractAsyncContextManager[object]) -> None:
    await change.__aexit__(None, None, None)


async def test_a_process_that_begins_while_something_is_held_holds_it_too() -> None:
    async with shops(Say(headers=[FRESH])) as (server, origin, (one, _)), one.engine.mutation((TAG,)):
        late = Shop(origin, store=SimulatedStore(server))
        assert [(await late.get()).said for _ in range(2)] == [HELD_BACK] * 2
        await late.engine.background.aclose()
        assert late.engine.depot is not None
        await late.engine.depot.aclose()


async def test_what_cannot_be_released_is_cut_here_and_released_by_the_store() -> None:
    async with shops(Say()) as (server, _, (one, other)):
        with pytest.raises(NotAcknowledged):
            async with one.engine.mutation((TAG,)):
                server.refuses = True
        assert (await one.get()).said != "hit"
        server.refuses = False
        await asyncio.sleep(HELD / 2)
        assert (await other.get()).said == HELD_BACK
        await asyncio.sleep(HELD)
        assert [(await other.get()).said for _ in range(2)] == ["fwd=uri-miss; stored", "hit"]


async def test_what_was_released_in_vain_is_not_held_here_any_more_but_kept_only_when_the_store_is_back() -> None:
    """Who comes later than the change may share: it is over, and what was made before is cut."""
    async with shops(Say(wait=0.1), count=1) as (server, origin, (one,)):
        change = one.engine.mutation((TAG,))
        await change.__aenter__()
        early = one.ask("/")
        await asyncio.sleep(0.05)
        server.refuses = True
        with pytest.raises(NotAcknowledged):
            await _over(change)
        origin.say = Say(chunks=[b"new"], wait=0.1)
        for pause in (0.0, 60.0, 600.0):
            await asyncio.sleep(pause)
            before = origin.calls
            asked = [one.ask("/") for _ in range(CALLERS)]
            assert {(await visit.done()).body for visit in asked} == {b"new"}
            assert origin.calls == before + 1
            assert (await one.get()).said == HELD_BACK, "it is known only then what others have cut"
        assert (await early.done()).body == b"hello"
        server.refuses = False
        await asyncio.sleep(2)
        assert [(await one.get()).said for _ in range(2)] == ["fwd=uri-miss; stored", "hit"]


async def test_what_another_holds_stays_held_where_our_own_could_not_be_released() -> None:
    async with shops(Say()) as (server, _, (one, other)), other.engine.mutation((TAG,)):
        await asyncio.sleep(0.1)
        with pytest.raises(NotAcknowledged):
            async with one.engine.mutation((TAG,)):
                server.refuses = True
        assert len(one.engine.stamps.holds((TAG,))) == 1, "theirs"
        server.refuses = False
        await asyncio.sleep(HELD / 2)
        assert (await one.get()).said == HELD_BACK


class LateAnswer(SimulatedStore):
    """What it has held may be lost when it says so."""

    async def hold(self, tags: Any, seconds: float) -> bytes:
        token = await super().hold(tags, seconds)
        await asyncio.sleep(0.02)
        return token


async def test_what_another_holds_is_not_taken_for_ours_in_a_log_that_has_lost_ours() -> None:
    async with shops(Say(), count=1) as (server, origin, (other,)), other.engine.mutation((TAG,)):
        one = Shop(origin, store=LateAnswer(server))
        await one.engine.invalidate(["x"])
        asyncio.get_running_loop().call_later(0.01, server.fail_over, 1)
        change = one.engine.mutation((TAG,))
        await change.__aenter__()
        assert one.engine.stamps.generation > 1
        assert list(server.space("tiercel").holds) == [1]
        server.refuses = True
        with pytest.raises(NotAcknowledged):
            await _over(change)
        assert one.engine.stamps.is_held([TAG])
        server.refuses = False
        await one.engine.background.aclose()
        assert one.engine.depot is not None
        await one.engine.depot.aclose()


async def test_holds_of_which_nobody_knows_whose_they_are_stay_until_the_store_ends_them() -> None:
    """They have begun in the same moment: ours is one of them."""
    async with shops(Say()) as (server, _, (one, other)):
        await asyncio.gather(one.get(), other.get())
        first, second = [each.engine.mutation((TAG,)) for each in (one, one)]
        await asyncio.gather(first.__aenter__(), second.__aenter__())
        server.refuses = True
        with pytest.raises(NotAcknowledged):
            await _over(second)
        assert one.engine.stamps.is_held([TAG]), "the first goes on"
        with pytest.raises(NotAcknowledged):
            await _over(first)
        server.refuses = False
        await asyncio.sleep(HELD + 1)
        assert not one.engine.stamps.is_held([TAG])
        await one.get()
        assert (await one.get()).said == "hit"


def test_what_is_over_here_is_not_held_again_when_the_log_tells_of_it() -> None:
    stamps = Stamps()
    stamps.apply([Cut(id=1, tags=("a",), holds=True)], 1)
    stamps.cut_meanwhile(["a"], soft=False, releases=[1])
    assert not stamps.is_held(["a"])
    assert stamps.verdict(["a"], stamps.position) is Verdict.CUT, "until the log has come so far"
    stamps.apply([Cut(id=1, tags=("a",), holds=True), Cut(id=2, tags=("a",))], 2)
    assert stamps.verdict(["a"], stamps.position) is Verdict.USABLE
