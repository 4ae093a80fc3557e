"""Values of asynchronous functions: found, made once for all who wait, renewed, given up."""

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false

import asyncio
import gc
import random
import traceback
import tracemalloc
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from itertools import pairwise
from typing import Any

import pytest

from tiercel import Cache
from tiercel._core.events import Answered, Discarded, Event, Failed, Stored
from tiercel.testing import VirtualClock, VirtualLoop

Number = Callable[[], Coroutine[Any, Any, int]]


class Seen:
    """An observer that keeps what it was told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def answers(self) -> list[tuple[str, str]]:
        return [(one.result, one.detail) for one in self.events if isinstance(one, Answered)]

    def reasons(self) -> list[str]:
        return [one.reason for one in self.events if isinstance(one, Discarded)]

    def failures(self) -> list[str]:
        return [repr(one.error) for one in self.events if isinstance(one, Failed)]


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def cache(clock: VirtualClock, seen: Seen) -> Cache:
    """Nothing at random: no jitter, no early refresh."""
    return Cache(clock=clock, observers=[seen], jitter=0.0, draw=lambda: 0.0)


class Source:
    """Returns the number of the call, after a while; or raises."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.calls = 0
        self.seconds = seconds
        self.error: BaseException | None = None

    async def call(self) -> int:
        self.calls += 1
        call, error = self.calls, self.error
        await asyncio.sleep(self.seconds)
        if error is not None:
            raise error
        return call


def remembered(cache: Cache, source: Source, **policy: Any) -> Number:
    policy.setdefault("ttl", 60)

    @cache.memoize(**policy)
    async def number() -> int:
        return await source.call()

    return number


async def begun(*calls: Awaitable[Any]) -> list["asyncio.Future[Any]"]:
    """Let each go as far as it gets while no time passes."""
    tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(call) for call in calls]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


async def outcomes(calls: Iterable[Awaitable[Any]]) -> list[Any]:
    return await asyncio.gather(*calls, return_exceptions=True)


def now() -> float:
    return asyncio.get_running_loop().time()


# -- one call for all who wait ---------------------------------------------------------------------------------------


async def test_a_hundred_callers_of_a_cold_value_cause_one_call_and_get_a_copy_each(cache: Cache) -> None:
    source = Source()

    @cache.memoize(ttl=60)
    async def numbers() -> list[int]:
        return [await source.call()]

    answers = await asyncio.gather(*[numbers() for _ in range(100)])
    assert source.calls == 1
    assert answers == [[1]] * 100
    assert len({id(answer) for answer in answers}) == 100


async def test_a_first_caller_who_is_cancelled_takes_nothing_from_those_who_wait(cache: Cache) -> None:
    source = Source()
    number = remembered(cache, source)
    first, *others = await begun(*[number() for _ in range(100)])
    first.cancel()
    assert await asyncio.gather(*others) == [1] * 99
    assert first.cancelled()
    assert source.calls == 1


async def test_a_call_that_everyone_has_left_is_finished_and_stored(cache: Cache) -> None:
    source = Source()
    number = remembered(cache, source)
    for task in await begun(*[number() for _ in range(3)]):
        task.cancel()
    await asyncio.sleep(1)
    assert await number() == 1


async def test_what_a_call_raises_is_raised_for_all_who_wait_and_is_not_stored(cache: Cache) -> None:
    source = Source()
    number = remembered(cache, source)
    source.error = ValueError("no rates today")
    assert [repr(one) for one in await outcomes(number() for _ in range(5))] == ["ValueError('no rates today')"] * 5
    assert source.calls == 1
    source.error = None
    assert await number() == 2


async def test_a_shared_exception_leads_each_who_gets_it_to_where_it_was_raised_and_no_further(cache: Cache) -> None:
    source = Source()
    number = remembered(cache, source)
    source.error = ValueError()
    seen: list[list[str]] = []

    async def watching() -> None:
        try:
            await number()
        except ValueError as error:
            seen.append([frame.name for frame in traceback.extract_tb(error.__traceback__)])

    await asyncio.gather(*[watching() for _ in range(5)])
    assert all(names == seen[0] for names in seen)
    assert seen[0][-2:] == ["number", "call"]


async def test_a_call_that_fails_once_its_first_caller_is_gone_is_made_again_by_who_waits(cache: Cache) -> None:
    """A first caller may take along what the call works with, such as the database session of its request."""
    closed: set[str] = set()
    used: list[str] = []

    @cache.memoize(ttl=60, key=lambda session: None)
    async def load(session: str) -> str:
        used.append(session)
        await asyncio.sleep(1)
        if session in closed:
            raise ConnectionError(session)
        return session

    first, *others = await begun(*[load(session) for session in "abcd"])
    first.cancel()
    closed.add("a")
    assert await asyncio.gather(*others) == ["b", "b", "b"]
    assert used == ["a", "b"]


async def test_stop_iteration_of_a_factory_is_an_error_and_nothing_waits_for_ever(cache: Cache) -> None:
    nothing = iter(list[int]())
    with pytest.raises(RuntimeError, match="StopIteration"):
        await cache.get_or_set("next", lambda: next(nothing), ttl=60)
    assert await cache.get_or_set("next", lambda: 1, ttl=60) == 1


async def test_a_function_that_calls_itself_with_other_arguments_is_computed_once_for_each(cache: Cache) -> None:
    asked: list[int] = []

    @cache.memoize(ttl=60)
    async def fibonacci(number: int) -> int:
        asked.append(number)
        if number < 2:
            return number
        return sum(await asyncio.gather(fibonacci(number - 1), fibonacci(number - 2)))

    assert await fibonacci(30) == 832_040
    assert sorted(asked) == list(range(31))


async def test_a_function_that_needs_its_own_value_ends_as_it_would_without_a_cache(cache: Cache) -> None:
    @cache.memoize(ttl=60)
    async def endless(number: int) -> int:
        return await endless(number)

    with pytest.raises(RecursionError):
        await endless(1)


async def test_a_function_that_asks_for_its_own_value_while_it_runs_is_answered(cache: Cache, seen: Seen) -> None:
    depth = 0

    @cache.memoize(ttl=60)
    async def retried(number: int) -> int:
        nonlocal depth
        depth += 1
        return depth if depth > 1 else 10 * await retried(number)

    assert await retried(1) == 20
    assert await retried(1) == 20
    assert seen.answers() == [("bypass", "re-entrant"), ("miss", ""), ("hit", "")]


async def test_a_call_within_a_task_that_a_call_has_left_behind_waits_like_any_other(cache: Cache) -> None:
    """What runs inherits what it is part of; once that is over, it is part of nothing."""
    source, later = Source(), list[asyncio.Task[int]]()

    @cache.memoize(ttl=10)
    async def number() -> int:
        async def afterwards() -> int:
            await asyncio.sleep(20)
            return await number()

        if not later:
            later.append(asyncio.create_task(afterwards()))
        return await source.call()

    await number()
    await asyncio.sleep(18.5)
    assert await outcomes([number(), later[0]]) == [2, 2]


# -- calls that are cut short ----------------------------------------------------------------------------------------


async def test_a_call_that_is_ended_before_its_first_step_leaves_nobody_waiting(cache: Cache) -> None:
    source = Source()
    number = remembered(cache, source)
    task = asyncio.create_task(number())
    await asyncio.sleep(0)
    await cache.aclose()
    with pytest.raises(RuntimeError, match=r"number was cut short, as at the end of the application"):
        await task
    assert source.calls == 0
    assert await number() == 1


async def test_closing_the_cache_ends_what_runs_and_it_can_be_used_and_closed_again(cache: Cache) -> None:
    source = Source()
    number = remembered(cache, source)
    waiting = await begun(number(), number())
    await cache.aclose()
    assert [type(one) for one in await outcomes(waiting)] == [RuntimeError] * 2
    assert now() == 0.0
    assert await number() == 2
    await cache.aclose()
    await cache.aclose()


async def test_a_function_whose_inside_is_cancelled_is_no_cancellation_of_those_who_wait(cache: Cache) -> None:
    source = Source()
    number = remembered(cache, source)
    source.error = asyncio.CancelledError()
    assert [type(one) for one in await outcomes(number() for _ in range(3))] == [RuntimeError] * 3
    source.error = None
    assert await number() == 2


def test_a_call_that_died_with_its_loop_is_not_waited_for_on_the_next(cache: Cache) -> None:
    source = Source()
    number = remembered(cache, source)
    first = VirtualLoop()
    left_over = first.create_task(number())
    first.run_until_complete(asyncio.sleep(0.5))
    with asyncio.Runner(loop_factory=VirtualLoop) as second:
        assert second.run(number()) == 2
        assert second.run(number()) == 2
    first.run_until_complete(left_over)
    first.close()
    assert source.calls == 2


async def test_nobody_joins_a_call_that_has_run_for_the_hard_limit(clock: VirtualClock) -> None:
    cache, source = Cache(clock=clock, hard_timeout=60), Source(seconds=10_000)
    number = remembered(cache, source)
    hung = (await begun(number()))[0]
    await asyncio.sleep(59)
    source.seconds = 1
    joined = (await begun(number()))[0]
    await asyncio.sleep(1)
    assert await number() == 2
    assert [hung.done(), joined.done()] == [False, False]
    await cache.aclose()
    assert [type(one) for one in await outcomes([hung, joined])] == [RuntimeError] * 2


# -- what cannot be kept apart from its caller -----------------------------------------------------------------------


def opening(cache: Cache) -> Callable[[], Awaitable[list[object]]]:
    """Of an iterator, which this returns the first three times, no copy could be made."""
    calls = 0

    @cache.memoize(ttl=60)
    async def opened() -> list[object]:
        nonlocal calls
        calls += 1
        call = calls
        await asyncio.sleep(1)
        return [iter([call]) if call <= 3 else call]

    return opened


async def test_what_cannot_be_copied_is_for_its_own_caller_and_the_others_begin_at_once(cache: Cache) -> None:
    opened = opening(cache)
    answers = await asyncio.gather(*[opened() for _ in range(10)])
    assert len({id(answer[0]) for answer in answers}) == 10
    assert now() == 2.0


async def test_after_what_cannot_be_copied_nobody_waits_for_anybody_for_a_while(cache: Cache, seen: Seen) -> None:
    opened = opening(cache)
    await opened()
    await asyncio.gather(*[opened() for _ in range(3)])
    assert now() == 2.0
    assert seen.answers() == [("miss", "not-storable")] + [("bypass", "not-storable")] * 3
    assert seen.reasons() == ["not-storable"]
    assert "ValueNotStorable" in seen.failures()[0]
    await asyncio.sleep(1)
    assert await outcomes([opened(), opened()]) == [[5], [5]]


async def test_a_value_that_is_past_all_use_does_not_keep_that_from_being_noted(cache: Cache) -> None:
    source = Source()

    @cache.memoize(ttl=60)
    async def opened() -> list[object]:
        number = await source.call()
        return [number if number == 1 else iter([number])]

    await opened()
    await asyncio.sleep(60)
    await opened()
    before = now()
    await asyncio.gather(opened(), opened())
    assert now() == before + 1.0


async def test_what_cannot_be_copied_does_not_cost_the_value_that_is_kept_for_emergencies(cache: Cache) -> None:
    made: list[object] = [1, iter([2]), OSError("down")]
    calls = 0

    @cache.memoize(ttl=60, stale_if_error=300)
    async def opened() -> list[object]:
        nonlocal calls
        calls += 1
        found = made[0]
        await asyncio.sleep(0.5)
        if isinstance(found, OSError):
            raise found
        return [found]

    assert await opened() == [1]
    await asyncio.sleep(60)
    made.pop(0)
    before = now()
    answers = await asyncio.gather(*[opened() for _ in range(5)])
    assert [answer[0] is made[0] for answer in answers] == [True] * 5
    assert (calls, now()) == (6, before + 1.0)
    made.pop(0)
    assert await opened() == [1]
    assert cache.stats().stale == 1


async def test_a_value_above_an_eighth_of_the_memory_is_handed_on_and_not_stored(seen: Seen) -> None:
    cache = Cache(memory=64_000, observers=[seen])
    for _ in range(2):
        assert len(await cache.get_or_set("blob", lambda: b"x" * 9_000, ttl=60)) == 9_000
    assert seen.reasons() == ["too-large"] * 2


# -- stale values ----------------------------------------------------------------------------------------------------


async def test_a_stale_value_is_served_at_once_and_renewed_once_behind(cache: Cache, seen: Seen) -> None:
    source = Source()
    number = remembered(cache, source, ttl=60, stale_while_revalidate=30)
    await number()
    await asyncio.sleep(60)
    before = now()
    assert await asyncio.gather(*[number() for _ in range(10)]) == [1] * 10
    assert now() == before
    await asyncio.sleep(1)
    assert await number() == 2
    assert source.calls == 2
    assert seen.answers() == [("miss", "")] + [("stale", "")] * 10 + [("hit", "")]


async def test_past_its_window_a_value_is_waited_for(cache: Cache) -> None:
    number = remembered(cache, Source(), ttl=60, stale_while_revalidate=30)
    await number()
    await asyncio.sleep(90)
    assert await number() == 2


async def test_a_renewal_that_fails_costs_nobody_anything_and_is_tried_again(cache: Cache, seen: Seen) -> None:
    source = Source()
    number = remembered(cache, source, ttl=60, stale_while_revalidate=30)
    await number()
    await asyncio.sleep(60)
    source.error = OSError("down")
    for calls in (2, 3):
        assert await number() == 1
        await asyncio.sleep(2)
        assert source.calls == calls
    assert seen.failures() == ["OSError('down')"] * 2


async def test_who_waits_for_a_renewal_that_fails_makes_a_call_of_its_own(cache: Cache) -> None:
    """The renewal worked with the arguments of a caller that was answered long ago."""
    source = Source(seconds=20)
    number = remembered(cache, source, ttl=60, stale_while_revalidate=10)
    await number()
    await asyncio.sleep(60)
    source.error = OSError("closed")
    assert await number() == 1
    await asyncio.sleep(15)
    source.error = None
    assert await number() == 3


@pytest.mark.parametrize(("drawn", "calls"), [(0.0, 1), (0.9, 1), (0.9999, 2)])
async def test_a_costly_value_is_renewed_before_it_is_stale_by_the_odds_of_xfetch(drawn: float, calls: int) -> None:
    clock, source = VirtualClock(), Source(seconds=2.0)
    cache = Cache(clock=clock, jitter=0.0, draw=lambda: drawn)
    number = remembered(cache, source, ttl=60)
    await number()
    await asyncio.sleep(50)
    assert await asyncio.gather(*[number() for _ in range(3)]) == [1] * 3
    await asyncio.sleep(2)
    assert source.calls == calls


async def test_a_cheap_value_is_certain_until_it_is_stale(clock: VirtualClock) -> None:
    cache, source = Cache(clock=clock, jitter=0.0, draw=lambda: 1 - 2.0**-53), Source(seconds=0.0)
    number = remembered(cache, source, ttl=60)
    await number()
    await asyncio.sleep(59.99)
    await number()
    await asyncio.sleep(0)
    assert source.calls == 1


async def test_a_stale_value_stands_in_for_a_function_that_fails_until_its_window_ends(cache: Cache) -> None:
    source = Source(seconds=0.5)
    number = remembered(cache, source, ttl=60, stale_if_error=30)
    await number()
    source.error = OSError("down")
    await asyncio.sleep(60)
    assert await outcomes([number(), number()]) == [1, 1]
    assert source.calls == 2
    await asyncio.sleep(29)
    with pytest.raises(OSError, match="down"):
        await number()


async def test_a_stale_value_is_served_once_the_soft_limit_is_reached_and_the_call_goes_on(cache: Cache) -> None:
    source = Source()
    number = remembered(cache, source, ttl=60, stale_if_error=300)
    await number()
    await asyncio.sleep(60)
    source.seconds = 5
    before = now()
    assert await outcomes([number(), number()]) == [1, 1]
    assert now() == before + 1.0
    await asyncio.sleep(4)
    assert await number() == 2
    assert source.calls == 2


async def test_without_a_soft_limit_a_slow_call_is_waited_for(clock: VirtualClock) -> None:
    cache, source = Cache(clock=clock, jitter=0.0, soft_timeout=None), Source()
    number = remembered(cache, source, ttl=60, stale_if_error=300)
    await number()
    await asyncio.sleep(60)
    source.seconds = 50
    assert await number() == 2


async def test_who_waits_when_the_window_of_the_stale_value_ends_goes_on_waiting(cache: Cache) -> None:
    source = Source()
    number = remembered(cache, source, ttl=60, stale_if_error=30)
    await number()
    await asyncio.sleep(89.5)
    source.seconds = 5
    assert await number() == 2


async def test_jitter_takes_its_share_off_a_lifetime(clock: VirtualClock, seen: Seen) -> None:
    cache = Cache(clock=clock, observers=[seen], jitter=0.1, draw=lambda: 0.5)
    await cache.set("one", 1, ttl=100)
    assert [round(one.lifetime, 6) for one in seen.events if isinstance(one, Stored)] == [95.0]
    await asyncio.sleep(94.9)
    assert await cache.get("one") == 1
    await asyncio.sleep(0.1)
    assert await cache.get("one") is None


async def test_a_thousand_values_that_were_stored_together_do_not_fall_due_together(clock: VirtualClock) -> None:
    cache = Cache(clock=clock, draw=random.Random(1).random)
    for number in range(1000):
        await cache.set(str(number), number, ttl=100)
    gone: list[int] = []
    for _ in range(6):
        gone.append(sum([await cache.get(str(number)) is None for number in range(1000)]))
        await asyncio.sleep(96 - now() if now() < 95 else 1)
    assert gone[0] == 0
    assert gone[-1] == 1000
    assert all(100 < later - sooner < 300 for sooner, later in pairwise(gone))


# -- invalidation ----------------------------------------------------------------------------------------------------


async def test_who_asks_after_an_invalidation_gets_nothing_of_a_call_that_began_before(
    cache: Cache, seen: Seen
) -> None:
    source = Source()
    number = remembered(cache, source, tags="numbers")
    early = await begun(number(), number())
    await asyncio.sleep(0.5)
    await cache.invalidate("numbers")
    late = await begun(number(), number())
    assert await asyncio.gather(*early) == [1, 1]
    assert await asyncio.gather(*late) == [2, 2]
    assert await number() == 2
    assert seen.reasons() == ["invalidated"]


async def test_an_invalidation_of_something_else_keeps_nobody_from_joining(cache: Cache) -> None:
    source = Source()
    number = remembered(cache, source, tags="numbers")
    early = await begun(number())
    await cache.invalidate("letters")
    late = await begun(number())
    assert await outcomes([*early, *late]) == [1, 1]
    assert await number() == 1


async def test_while_the_tags_are_not_known_nobody_joins_after_an_invalidation(cache: Cache) -> None:
    """They follow from the value: only when it is there is it known whether it was hit."""
    source = Source()
    number = remembered(cache, source, tags=lambda arguments, value: [f"number:{value}"])
    early = await begun(number())
    await cache.invalidate("number:1")
    late = await begun(number())
    assert await outcomes([*early, *late]) == [1, 2]
    await cache.invalidate("number:1")
    assert await number() == 2
    await cache.invalidate("number:2")
    assert await number() == 3


async def test_after_a_soft_invalidation_a_value_is_served_while_one_call_renews_it(cache: Cache) -> None:
    source = Source()
    number = remembered(cache, source, tags="numbers")
    await number()
    await cache.invalidate("numbers", soft=True)
    assert await asyncio.gather(*[number() for _ in range(5)]) == [1] * 5
    await asyncio.sleep(1)
    assert await number() == 2
    assert source.calls == 2


async def test_a_call_that_began_before_a_soft_invalidation_does_not_replace_what_a_later_one_brought(
    cache: Cache, seen: Seen
) -> None:
    source = Source(seconds=10)
    number = remembered(cache, source, tags="numbers")
    early = await begun(number())
    await cache.invalidate("numbers", soft=True)
    source.seconds = 1
    assert await number() == 2
    assert await asyncio.gather(*early) == [1]
    assert await number() == 2
    assert source.calls == 2
    assert seen.reasons() == ["superseded"]


async def test_clearing_forgets_what_is_just_being_made(cache: Cache) -> None:
    source = Source()
    number = remembered(cache, source)
    early = await begun(number())
    await cache.clear()
    late = await begun(number())
    assert await outcomes([*early, *late]) == [1, 2]
    assert await number() == 2


async def test_a_value_that_was_invalidated_stands_in_for_nothing(cache: Cache) -> None:
    source = Source()
    number = remembered(cache, source, tags="numbers", stale_while_revalidate=60, stale_if_error=60)
    await number()
    await cache.invalidate("numbers")
    source.error = OSError("down")
    with pytest.raises(OSError, match="down"):
        await number()


# -- what is told, and what is weighed -------------------------------------------------------------------------------


async def test_observers_are_told_how_a_call_was_answered_and_how_long_that_took(cache: Cache, seen: Seen) -> None:
    number = remembered(cache, Source())
    await asyncio.gather(number(), number())
    await number()
    told = [(one.result, one.seconds) for one in seen.events if isinstance(one, Answered)]
    assert told == [("miss", 1.0), ("collapsed", 1.0), ("hit", 0.0)]
    assert {one.key.rpartition(".")[2] for one in seen.events if isinstance(one, Answered)} == {"number"}


async def test_a_failure_is_told_with_its_place_its_error_and_its_key(cache: Cache, seen: Seen) -> None:
    source = Source()
    number = remembered(cache, source)
    source.error = error = OSError("down")
    await outcomes([number(), number()])
    failed = [one for one in seen.events if isinstance(one, Failed)]
    assert [(one.where.rpartition(".")[2], one.error, len(one.key)) for one in failed] == [("number", error, 32)]
    assert seen.answers() == [("miss", "failed"), ("collapsed", "failed")]


async def test_what_was_done_is_counted(cache: Cache) -> None:
    source = Source()
    number = remembered(cache, source, ttl=60, stale_while_revalidate=30)
    await asyncio.gather(number(), number())
    await number()
    await asyncio.sleep(60)
    await number()
    await asyncio.sleep(2)
    stats = cache.stats()
    assert (stats.hits, stats.stale, stats.collapsed, stats.fills, stats.stored) == (1, 1, 1, 2, 2)
    assert (stats.discarded, stats.failed, stats.bypassed) == (0, 0, 0)
    assert stats.hit_ratio == 3 / 5


async def test_small_values_weigh_at_least_what_they_take() -> None:
    cache = Cache()
    await cache.set("warm", 0.5, ttl=60)
    gc.collect()
    tracemalloc.start()
    try:
        before, weighed = tracemalloc.get_traced_memory()[0], cache.stats().weight
        for number in range(3000):
            await cache.set(f"key {number}", number * 1.5, ttl=60)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken <= cache.stats().weight - weighed <= 2 * taken


async def test_nothing_is_left_of_calls_that_are_over(cache: Cache) -> None:
    source = Source()
    number = remembered(cache, source)
    source.error = OSError()
    await outcomes([number(), number()])
    source.error = None
    await number()
    assert len(cache._recall._runs) == 0
    assert len(cache.engine.background) == 0
