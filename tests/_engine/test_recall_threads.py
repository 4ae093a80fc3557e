"""Values of synchronous functions: made once for all threads that wait, and never by stopping an event loop."""

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tiercel import Cache, ConfigurationError
from tiercel._core.events import Event, Failed
from tiercel.testing import VirtualClock

PATIENCE = 60.0


class Source:
    """Returns the number of the call; waits at a gate first, where it is closed."""

    def __init__(self) -> None:
        self.calls = 0
        self.threads: list[str] = []
        self.error: BaseException | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def call(self) -> int:
        self.calls += 1
        call, error = self.calls, self.error
        self.threads.append(threading.current_thread().name)
        self.entered.set()
        assert self.gate.wait(PATIENCE)
        if error is not None:
            raise error
        return call

    def close(self) -> None:
        self.gate.clear()
        self.entered.clear()


def remembered(cache: Cache, source: Source, **policy: Any) -> Callable[[], int]:
    policy.setdefault("ttl", 60)

    @cache.memoize(**policy)
    def number() -> int:
        return source.call()

    return number


def until(condition: Callable[[], object]) -> None:
    """Give other threads the time to get there."""
    for _ in range(60_000):
        if condition():
            return
        threading.Event().wait(0.001)
    raise AssertionError("it did not come to that")


def waiting(cache: Cache) -> int:
    """How many threads wait for what another one runs."""
    runs: Any = [run for running in cache._recall._runs._running.values() for run in running]
    return sum(len(run._ended._cond._waiters) for run in runs)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def cache(clock: VirtualClock) -> Iterator[Cache]:
    cache = Cache(clock=clock, jitter=0.0, draw=lambda: 0.0, soft_timeout=None)
    yield cache
    asyncio.run(cache.aclose())


def begun(pool: ThreadPoolExecutor, cache: Cache, source: Source, number: Callable[[], int]) -> list[Future[int]]:
    """One thread is within the function, the others wait for it."""
    source.close()
    first = pool.submit(number)
    assert source.entered.wait(PATIENCE)
    others = [pool.submit(number) for _ in range(4)]
    until(lambda: waiting(cache) == 4)
    return [first, *others]


# -- one call for all threads ----------------------------------------------------------------------------------------


def test_threads_that_want_the_same_value_wait_for_one_call(cache: Cache) -> None:
    source = Source()
    with ThreadPoolExecutor(5) as pool:
        answers = begun(pool, cache, source, remembered(cache, source))
        source.gate.set()
        assert [answer.result(PATIENCE) for answer in answers] == [1] * 5
    assert source.calls == 1
    assert (cache.stats().fills, cache.stats().collapsed) == (1, 4)


def test_what_a_call_raises_is_raised_in_every_thread_that_waits_and_is_not_stored(cache: Cache) -> None:
    source = Source()
    number = remembered(cache, source)
    source.error = ValueError("no rates today")
    with ThreadPoolExecutor(5) as pool:
        answers = begun(pool, cache, source, number)
        source.gate.set()
        assert [repr(answer.exception(PATIENCE)) for answer in answers] == ["ValueError('no rates today')"] * 5
    source.error = None
    assert number() == 2


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interruption_is_for_its_own_thread_and_the_others_make_the_call_themselves(
    cache: Cache, interruption: type[BaseException]
) -> None:
    source = Source()
    source.error = interruption()
    with ThreadPoolExecutor(5) as pool:
        first, *others = begun(pool, cache, source, remembered(cache, source))
        source.error = None
        source.gate.set()
        assert isinstance(first.exception(PATIENCE), interruption)
        assert [other.result(PATIENCE) for other in others] == [2] * 4


def test_who_asks_after_an_invalidation_does_not_wait_for_a_call_that_began_before(cache: Cache) -> None:
    source = Source()
    number = remembered(cache, source, tags="numbers")
    with ThreadPoolExecutor(5) as pool:
        early = begun(pool, cache, source, number)
        asyncio.run(cache.invalidate("numbers"))
        source.gate.set()
        assert number() == 2
        assert [answer.result(PATIENCE) for answer in early] == [1] * 5
    assert number() == 2


def test_what_cannot_be_copied_is_for_its_own_caller_and_the_others_call_for_themselves(cache: Cache) -> None:
    source = Source()

    @cache.memoize(ttl=60)
    def opened() -> list[object]:
        return [iter([source.call()])]

    with ThreadPoolExecutor(5) as pool:
        source.close()
        first = pool.submit(opened)
        assert source.entered.wait(PATIENCE)
        others = [pool.submit(opened) for _ in range(4)]
        until(lambda: waiting(cache) == 4)
        source.gate.set()
        answers = [answer.result(PATIENCE)[0] for answer in [first, *others]]
    assert len({id(answer) for answer in answers}) == source.calls == 5
    assert cache.stats().bypassed == 4


def test_a_function_that_calls_itself_with_other_arguments_is_computed_once_for_each(cache: Cache) -> None:
    asked: list[int] = []

    @cache.memoize(ttl=60)
    def fibonacci(number: int) -> int:
        asked.append(number)
        return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2)

    assert fibonacci(30) == 832_040
    assert sorted(asked) == list(range(31))


def test_a_function_that_needs_its_own_value_ends_as_it_would_without_a_cache(cache: Cache) -> None:
    @cache.memoize(ttl=60)
    def endless(number: int) -> int:
        return endless(number)

    with pytest.raises(RecursionError):
        endless(1)


def test_a_function_that_is_not_async_must_not_return_something_to_await(cache: Cache) -> None:
    async def load() -> int:
        return 1

    @cache.memoize(ttl=60)
    def number() -> Any:
        return load()

    with pytest.raises(ConfigurationError, match="number is not `async def`, but returned something to await"):
        number()


# -- on an event loop ------------------------------------------------------------------------------------------------


@pytest.mark.realtime
async def test_a_loop_does_not_wait_for_a_thread_that_waits_for_that_loop(cache: Cache) -> None:
    loop, on_its_way = asyncio.get_running_loop(), threading.Event()

    async def asked() -> int:
        return 1

    @cache.memoize(ttl=60)
    def number() -> int:
        if threading.current_thread() is threading.main_thread():
            return 2
        on_its_way.set()
        return asyncio.run_coroutine_threadsafe(asked(), loop).result(PATIENCE)

    in_thread = asyncio.create_task(asyncio.to_thread(number))
    await asyncio.sleep(0)
    assert on_its_way.wait(PATIENCE)
    assert number() == 2
    assert await in_thread == 1
    assert number() == 1


async def test_called_on_a_loop_it_is_made_and_found_as_anywhere(cache: Cache) -> None:
    source = Source()
    number = remembered(cache, source)
    assert [number(), number()] == [1, 1]


# -- stale values ----------------------------------------------------------------------------------------------------


def test_a_stale_value_is_served_at_once_and_renewed_once_in_a_thread_behind(cache: Cache, clock: VirtualClock) -> None:
    source = Source()
    number = remembered(cache, source, ttl=60, stale_while_revalidate=30)
    number()
    clock.advance(60)
    source.close()
    assert [number() for _ in range(5)] == [1] * 5
    source.gate.set()
    until(lambda: number() == 2)
    assert source.calls == 2
    assert source.threads[1].startswith("tiercel-refresh")


def test_a_renewal_sees_the_context_of_the_caller_who_set_it_off(cache: Cache, clock: VirtualClock) -> None:
    tenant = contextvars.ContextVar("tenant", default="nobody")

    @cache.memoize(ttl=60, stale_while_revalidate=30)
    def whose() -> str:
        return tenant.get()

    whose()
    clock.advance(60)
    tenant.set("acme")
    whose()
    until(lambda: whose() == "acme")


def test_a_stale_value_stands_in_for_a_function_that_fails(cache: Cache, clock: VirtualClock) -> None:
    source = Source()
    number = remembered(cache, source, ttl=60, stale_if_error=30)
    number()
    clock.advance(60)
    source.error = OSError("down")
    with ThreadPoolExecutor(5) as pool:
        answers = begun(pool, cache, source, number)
        source.gate.set()
        assert [answer.result(PATIENCE) for answer in answers] == [1] * 5
    assert source.calls == 2
    clock.advance(30)
    with pytest.raises(OSError, match="down"):
        number()


def test_a_thread_that_waits_is_served_what_is_stale_once_the_soft_limit_is_reached(clock: VirtualClock) -> None:
    cache, source = Cache(clock=clock, jitter=0.0, soft_timeout=0.01), Source()
    number = remembered(cache, source, ttl=60, stale_if_error=30)
    number()
    clock.advance(60)
    source.close()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(number)
        assert source.entered.wait(PATIENCE)
        assert number() == 1
        source.gate.set()
        assert first.result(PATIENCE) == 2


class Seen:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)


# -- closing ---------------------------------------------------------------------------------------------------------


def refreshing() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("tiercel-refresh")]


@pytest.mark.realtime
async def test_closing_ends_the_threads_and_begins_nothing_that_still_waits_for_one(clock: VirtualClock) -> None:
    seen, source = Seen(), Source()
    cache = Cache(clock=clock, jitter=0.0, observers=[seen])

    @cache.memoize(ttl=60, stale_while_revalidate=30)
    def number(of: int) -> int:
        return source.call() * 0 + of

    for of in range(6):
        number(of)
    clock.advance(60)
    source.close()
    assert [number(of) for of in range(6)] == list(range(6))
    until(lambda: source.calls == 10)
    closing = asyncio.create_task(cache.aclose())
    await asyncio.sleep(0)
    source.gate.set()
    await closing
    assert source.calls == 10
    assert refreshing() == []
    assert sum(isinstance(event, Failed) for event in seen.events) == 2
    assert number(5) == 5
    until(lambda: source.calls == 11)
    assert refreshing() != []
    await cache.aclose()
    await cache.aclose()
    assert refreshing() == []


def test_where_no_thread_can_be_had_a_stale_value_is_served_all_the_same(cache: Cache, clock: VirtualClock) -> None:
    source = Source()
    number = remembered(cache, source, ttl=60, stale_while_revalidate=30)
    number()
    clock.advance(60)
    cache._recall._refreshers().shutdown()
    assert [number(), number()] == [1, 1]
    assert cache.stats().failed == 2
    clock.advance(30)
    assert number() == 2
