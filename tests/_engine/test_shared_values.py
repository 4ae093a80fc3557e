"""Values that several processes share: set in one, got in all; made by one; cut for all."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec import Struct

from tiercel import Cache
from tiercel.errors import NotAcknowledged
from tiercel.spi import Cut, Log
from tiercel.testing import SimulatedServer, SimulatedStore, VirtualClock


@dataclass
class Shared:
    """Three processes, and a function that each of them memoises."""

    server: SimulatedServer
    caches: list[Cache]
    called: list[int] = field(default_factory=list[int])
    wait: float = 0.1
    fails: bool = False

    def functions(self, **policy: Any) -> "list[Callable[[int], Awaitable[dict[str, int]]]]":
        """What the module of each process has under one name."""
        given: dict[str, Any] = {"ttl": 60, "tags": "rates", **policy}
        return [cache.memoize(**given)(self._named()) for cache in self.caches]

    def _named(self) -> Callable[[int], Awaitable[dict[str, int]]]:
        async def load_rates(base: int) -> dict[str, int]:
            self.called.append(base)
            version = len(self.called)
            await asyncio.sleep(self.wait)
            if self.fails:
                raise ZeroDivisionError
            return {"version": version}

        load_rates.__qualname__ = "load_rates"
        return load_rates


@asynccontextmanager
async def shared(count: int = 3, **more: Any) -> AsyncGenerator[Shared]:
    server = SimulatedServer(latency=0.001)
    made = Shared(
        server, [Cache(SimulatedStore(server), clock=VirtualClock(), jitter=0.0, **more) for _ in range(count)]
    )
    try:
        yield made
    finally:
        server.refuses = False
        for cache in made.caches:
            await cache.aclose()


async def test_what_is_set_in_one_process_is_got_in_all() -> None:
    async with shared() as all_:
        one, other, _ = all_.caches
        await one.set("greeting", "hello", ttl=60)
        await one.set("numbers", [1, 2, {"a": None}], ttl=60)
        assert [await cache.get("greeting") for cache in all_.caches] == ["hello"] * 3
        assert await other.get("numbers") == [1, 2, {"a": None}]
        assert await other.get("nothing") is None
        asked = all_.server.asked
        assert await other.get("greeting") == "hello"
        assert all_.server.asked == asked, "from memory"


async def test_what_is_set_again_replaces_it_everywhere() -> None:
    async with shared() as all_:
        one, other, _ = all_.caches
        await one.set("limit", 1, ttl=60)
        assert await other.get("limit") == 1
        await one.set("limit", 2, ttl=60)
        await asyncio.sleep(0.1)
        assert await other.get("limit") == 2
        await other.delete("limit")
        await asyncio.sleep(0.1)
        assert await one.get("limit") is None
        await one.write_through("limit", 3, lambda _: None, ttl=60)
        await asyncio.sleep(0.1)
        assert await other.get("limit") == 3


async def test_it_is_as_old_everywhere() -> None:
    async with shared() as all_:
        one, other, _ = all_.caches
        await one.set("greeting", "hello", ttl=60)
        await asyncio.sleep(50)
        assert await other.get("greeting") == "hello"
        await asyncio.sleep(11)
        assert [await cache.get("greeting") for cache in (one, other)] == [None, None]


async def test_of_all_processes_one_makes_what_all_want() -> None:
    async with shared() as all_:
        functions = all_.functions()
        made = await asyncio.gather(*[function(1) for function in functions for _ in range(10)])
        assert made == [{"version": 1}] * 30
        assert all_.called == [1]
        assert sum(cache.stats().fills for cache in all_.caches) == 1


@dataclass
class Rate:
    """What a function returns in one release of a program."""

    usd: float


@dataclass
class NextRate:
    """What it returns in the next one. That it is told apart must not hang on what the class is called."""

    usd: float
    fee: float = 0.0


NextRate.__name__ = NextRate.__qualname__ = "Rate"


class Lean(Struct, omit_defaults=True):
    usd: float = 1.0


class NextLean(Struct, omit_defaults=True):
    usd: float = 2.0


@pytest.mark.parametrize(("old", "new"), [(Rate(1.0), NextRate(1.0, fee=0.5)), (Lean(), NextLean())])
async def test_releases_that_return_something_else_share_no_values_and_hear_of_each_others_cuts(
    old: Any, new: Any
) -> None:
    def made(cache: Cache, value: Any) -> Callable[[], Awaitable[Any]]:
        async def load() -> Any:
            called.append(value)
            return value

        load.__qualname__ = "load"
        load.__annotations__["return"] = type(value)
        return cache.memoize(ttl=60, tags="rates")(load)

    called: list[Any] = []
    async with shared() as all_:
        functions = [made(cache, value) for cache, value in zip(all_.caches, (old, old, new), strict=True)]
        assert [await function() for function in functions] == [old, old, new]
        assert called == [old, new]
        await all_.caches[2].invalidate("rates", wait="all")
        assert [await function() for function in functions] == [old, old, new]
        assert called == [old, new, old, new]


async def test_what_is_cut_in_one_is_made_anew_by_one() -> None:
    async with shared() as all_:
        functions = all_.functions()
        for function in functions:
            assert await function(1) == {"version": 1}
        await all_.caches[1].invalidate("rates")
        await asyncio.sleep(0.1)
        assert await asyncio.gather(*[function(1) for function in functions]) == [{"version": 2}] * 3


async def test_what_was_begun_before_the_cut_is_for_nobody_after_it() -> None:
    async with shared() as all_:
        one, other, _ = all_.functions()
        early = asyncio.ensure_future(one(1))
        await asyncio.sleep(0.05)
        await all_.caches[2].invalidate("rates")
        assert await other(1) == {"version": 2}
        assert await early == {"version": 1}
        await asyncio.sleep(0.1)
        assert await one(1) == {"version": 2}


async def test_who_fails_leaves_it_to_the_next() -> None:
    async with shared() as all_:
        one, other, _ = all_.functions()
        all_.fails = True
        with pytest.raises(ZeroDivisionError):
            await one(1)
        all_.fails = False
        began = asyncio.get_running_loop().time()
        assert await other(1) == {"version": 2}
        assert asyncio.get_running_loop().time() - began < 0.2


async def test_of_all_processes_one_renews_what_is_stale() -> None:
    async with shared() as all_:
        functions = all_.functions(ttl=10, stale_while_revalidate=60)
        for function in functions:
            await function(1)
        await asyncio.sleep(11)
        assert [await function(1) for function in functions] == [{"version": 1}] * 3
        await asyncio.sleep(1)
        assert [await function(1) for function in functions] == [{"version": 2}] * 3
        assert len(all_.called) == 2


async def test_of_what_is_drawn_to_be_early_one_process_makes_a_new_one() -> None:
    async with shared(draw=lambda: 1.0 - 1e-9) as all_:
        functions = all_.functions(ttl=10)
        for function in functions:
            await function(1)
        await asyncio.sleep(9.9)
        for function in functions:
            await function(1)
        await asyncio.sleep(1)
        assert len(all_.called) == 2


async def test_what_only_this_process_can_copy_stays_here() -> None:
    async with shared(2) as all_:
        one, other = all_.caches
        await one.set("kinds", {1, 2}, ttl=60)
        assert await one.get("kinds") == {1, 2}
        assert await other.get("kinds") is None


async def test_what_another_release_annotated_otherwise_is_made_anew() -> None:
    async with shared(2) as all_:
        one, other = all_.caches

        def load(kind: type) -> Any:
            async def load_name() -> Any:
                return "lamp" if kind is str else 7

            load_name.__qualname__ = "load_name"
            load_name.__annotations__["return"] = kind
            return load_name

        assert await one.memoize(ttl=60)(load(str))() == "lamp"
        assert await other.memoize(ttl=60)(load(int))() == 7


async def test_what_no_tag_could_hit_is_not_shared() -> None:
    async with shared(2) as all_:

        def fails(value: object) -> str:
            raise TypeError(value)

        one, other = all_.functions(tags=fails)
        await one(1)
        await other(1)
        assert len(all_.called) == 2


async def test_closures_are_not_shared() -> None:
    async with shared(2) as all_:

        async def local() -> int:
            all_.called.append(0)
            return 0

        for cache in all_.caches:
            await cache.memoize(ttl=60)(local)()
        assert len(all_.called) == 2


async def test_without_the_store_values_are_made_and_replaced_here_only() -> None:
    async with shared(2) as all_:
        one, _ = all_.functions()
        await all_.caches[0].set("limit", 1, ttl=60)
        all_.server.refuses = True
        assert await one(1) == {"version": 1}
        assert await one(1) == {"version": 1}
        with pytest.raises(NotAcknowledged, match="'limit' is replaced or forgotten in this process, but not for"):
            await all_.caches[0].set("limit", 2, ttl=60)
        assert await all_.caches[0].get("limit") is None


class Late(SimulatedStore):
    """The tail is behind."""

    behind = 0.2

    def _follows(self, log: Log, cuts: list[Cut], head: int, *, gap: bool) -> None:
        asyncio.get_running_loop().call_later(self.behind, lambda: super(Late, self)._follows(log, cuts, head, gap=gap))


@pytest.mark.parametrize("behind", [0.01, 0.2])
async def test_of_two_writes_in_two_processes_the_older_is_never_what_is_stored(behind: float) -> None:
    server = SimulatedServer(latency=0.001)
    late = Late(server)
    late.behind = behind
    one, other, third = (
        Cache(store, clock=VirtualClock()) for store in (late, SimulatedStore(server), SimulatedStore(server))
    )
    written: list[str] = []

    async def save(value: str) -> None:
        written.append(value)
        await asyncio.sleep(0.1 if value == "older" else 0.0)

    await one.open()
    older = asyncio.create_task(one.write_through("k", "older", save, ttl=60))
    await asyncio.sleep(0.05)
    await other.write_through("k", "newer", save, ttl=60)
    await older
    assert written == ["older", "newer"]
    await asyncio.sleep(1)
    assert [await cache.get("k") for cache in (one, other, third)] == [None, None, None]
    for cache in (one, other, third):
        await cache.aclose()


@pytest.mark.parametrize(("behind", "found"), [(0.01, "value"), (0.2, None)])
async def test_what_is_written_through_is_stored_once_it_is_known_what_others_have_cut(
    behind: float, found: str | None
) -> None:
    server = SimulatedServer(latency=0.001)
    late = Late(server)
    late.behind = behind
    one, other = Cache(late, clock=VirtualClock()), Cache(SimulatedStore(server), clock=VirtualClock())

    async def save(_: str) -> None:
        await other.invalidate("something else")

    await one.open()
    await one.write_through("k", "value", save, ttl=60)
    await asyncio.sleep(1)
    assert [await cache.get("k") for cache in (one, other)] == [found, found]
    for cache in (one, other):
        await cache.aclose()


# -- what was made of there being none -------------------------------------------------------------------------------


async def put(cache: Cache, way: str, name: str) -> None:
    if way == "set":
        await cache.set(name, "there", ttl=600)
    else:
        await cache.write_through(name, "there", lambda _: None, ttl=600)


@pytest.mark.parametrize("way", ["set", "write_through"])
@pytest.mark.parametrize("process", [0, 1], ids=["this", "another"])
async def test_what_was_made_of_there_being_none_is_gone_once_there_is_one(way: str, process: int) -> None:
    """Begun at any moment while it is being set: after the cut, too, and before the value is there."""
    async with shared(2) as all_:
        reader = all_.caches[process]

        @reader.memoize(ttl=600)
        async def view(number: int) -> str:
            del number
            return await reader.get("name") or "none"

        setting, begun = asyncio.create_task(put(all_.caches[0], way, "name")), list[asyncio.Future[str]]()
        while not setting.done():
            begun.append(asyncio.ensure_future(view(len(begun))))
            await asyncio.sleep(0.00025)
        await setting
        assert "none" in await asyncio.gather(*begun)
        await asyncio.sleep(0.1)  # until the other has heard of it
        assert {await view(number) for number in range(len(begun))} == {"there"}


@pytest.mark.parametrize("way", ["set", "write_through"])
@pytest.mark.parametrize("process", [0, 1], ids=["this", "another"])
async def test_what_was_made_because_there_was_none_does_not_replace_what_was_set(way: str, process: int) -> None:
    async with shared(2) as all_:
        maker = all_.caches[process]

        @maker.memoize(ttl=600)
        async def view(name: str) -> str:
            return str(await maker.get_or_set(name, lambda: asyncio.sleep(1, "made"), ttl=600))

        for number in range(30):
            name = str(number)
            setting = asyncio.create_task(put(all_.caches[0], way, name))
            await asyncio.sleep(number * 0.00025)
            making = asyncio.create_task(view(name))
            await setting
            await asyncio.sleep(0.1)
            assert await view(name) == "there"
            await making
            assert "made" not in [await cache.get(name) for cache in all_.caches]
            assert await view(name) == "there"
