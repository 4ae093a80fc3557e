"""What was read for a response or a value is handed on to whatever is made of it."""

import asyncio
import threading
from itertools import count
from typing import Any

import pytest
from drive import FRESH, Say, Shop, turns

from tiercel import Cache
from tiercel._core.calls import Value
from tiercel._engine import reading as _reading
from tiercel._engine.reading import MOST, PARTS, Reads, reading
from tiercel._engine.stamps import Stamps
from tiercel.spi import Cut
from tiercel.testing import VirtualClock


def reads() -> Reads:
    found = reading.get()
    assert found is not None
    return found


class Parts:
    """A function over another, and how often each was called."""

    def __init__(self, clock: VirtualClock, **inner: Any) -> None:
        self.cache = Cache(clock=clock, jitter=0.0, draw=lambda: 0.0)
        self.calls: list[str] = []

        fields: dict[str, Any] = {"ttl": 60, "tags": "inner", **inner}

        @self.cache.memoize(**fields)
        async def part() -> int:
            self.calls.append("part")
            return len(self.calls)

        @self.cache.memoize(ttl=3600, tags="outer")
        async def whole() -> int:
            self.calls.append("whole")
            return await part()

        self.part, self.whole = part, whole

    async def made(self) -> list[str]:
        """What is called to get the whole."""
        self.calls.clear()
        await self.whole()
        return list(self.calls)


async def test_what_is_made_of_a_value_falls_with_it(clock: VirtualClock) -> None:
    parts = Parts(clock)
    await parts.whole()
    await parts.cache.invalidate("inner")
    assert await parts.made() == ["whole", "part"]


async def test_also_where_the_value_was_a_hit(clock: VirtualClock) -> None:
    parts = Parts(clock)
    await parts.part()
    await parts.whole()
    await parts.cache.invalidate("inner")
    assert await parts.made() == ["whole", "part"]


async def test_it_is_fresh_no_longer_than_what_it_is_made_of(clock: VirtualClock) -> None:
    parts = Parts(clock)
    await parts.part()
    await asyncio.sleep(50)
    await parts.whole()
    await asyncio.sleep(9)
    assert await parts.made() == []
    await asyncio.sleep(2)
    assert await parts.made() == ["whole", "part"]


async def test_what_is_made_of_a_stale_value_is_not_stored(clock: VirtualClock) -> None:
    parts = Parts(clock, stale_while_revalidate=600)
    await parts.part()
    await asyncio.sleep(100)
    assert await parts.made() == ["whole", "part"]
    await turns()
    assert await parts.made() == ["whole"]  # of what was renewed behind
    assert await parts.made() == []


async def test_what_is_made_of_a_softly_cut_value_is_not_stored(clock: VirtualClock) -> None:
    parts = Parts(clock, stale_while_revalidate=600)
    await parts.part()
    await parts.cache.invalidate("inner", soft=True)
    assert await parts.made() == ["whole", "part"]
    await turns()
    assert await parts.made() == ["whole"]
    assert await parts.made() == []


async def test_what_is_made_of_a_value_that_is_cut_meanwhile_is_not_stored(clock: VirtualClock) -> None:
    parts = Parts(clock)
    await parts.part()

    @parts.cache.memoize(ttl=60)
    async def slow() -> int:
        parts.calls.append("slow")
        found = await parts.part()
        await asyncio.sleep(1)
        return found

    running = asyncio.create_task(slow())
    await turns()
    await parts.cache.invalidate("inner")
    await running
    parts.calls.clear()
    await slow()
    assert parts.calls == ["slow", "part"]


async def test_nobody_joins_a_call_that_has_read_what_was_cut_meanwhile(clock: VirtualClock) -> None:
    parts = Parts(clock)

    @parts.cache.memoize(ttl=60)
    async def slow() -> int:
        parts.calls.append("slow")
        found = await parts.part()
        await asyncio.sleep(1)
        return found

    first = asyncio.create_task(slow())
    await turns()
    await parts.cache.invalidate("elsewhere")
    joins = asyncio.create_task(slow())
    await turns()
    await parts.cache.invalidate("inner")
    late = asyncio.create_task(slow())
    await asyncio.gather(first, joins, late)
    assert parts.calls == ["slow", "part", "slow", "part"]
    assert first.result() == joins.result() != late.result()


async def test_a_value_that_could_not_be_stored_hands_its_tags_on(clock: VirtualClock) -> None:
    parts = Parts(clock)

    @parts.cache.memoize(ttl=60, tags="odd")
    async def odd() -> list[Any]:
        return [lambda: 1]

    @parts.cache.memoize(ttl=60)
    async def whole() -> int:
        parts.calls.append("made")
        return len(await odd())

    for _ in range(2):  # the first time it is found out
        parts.calls.clear()
        await whole()
        await whole()
        assert parts.calls == ["made"]
        await parts.cache.invalidate("odd")


async def test_a_failure_that_is_caught_has_been_read(clock: VirtualClock) -> None:
    parts = Parts(clock)

    @parts.cache.memoize(ttl=60, tags="there")
    async def missing() -> int:
        await parts.part()
        raise LookupError

    @parts.cache.memoize(ttl=60)
    async def whole() -> str:
        parts.calls.append("made")
        try:
            await missing()
        except LookupError:
            return "none"
        return "some"

    for tag in ("there", "inner"):
        await whole()
        parts.calls.clear()
        await whole()
        assert parts.calls == []
        await parts.cache.invalidate(tag)
        await whole()
        assert "made" in parts.calls


def test_values_of_synchronous_functions_are_handed_on() -> None:
    cache, calls = Cache(), list[str]()

    @cache.memoize(ttl=60, tags="inner")
    def part() -> int:
        return 1

    @cache.memoize(ttl=60)
    def whole() -> int:
        calls.append("whole")
        return part()

    whole()
    assert reading.get() is None
    asyncio.run(cache.invalidate("inner"))
    assert (whole(), whole(), calls) == (1, 1, ["whole", "whole"])


async def test_what_is_made_of_a_named_value_falls_when_that_is_set(clock: VirtualClock) -> None:
    cache, calls = Cache(clock=clock), list[object]()

    @cache.memoize(ttl=60)
    async def whole() -> Any:
        calls.append(await cache.get("name"))
        return calls[-1]

    await whole()
    for value in ("one", "two"):
        await cache.set("name", value, ttl=60)
        assert await whole() == value
        assert await whole() == value
    await cache.delete("name")
    assert await whole() is None
    assert calls == [None, "one", "two", None]


async def test_of_very_many_named_values_any_may_have_been_read(clock: VirtualClock) -> None:
    cache = Cache(clock=clock)

    @cache.memoize(ttl=60)
    async def whole(number: int) -> Any:
        return await cache.get(f"name {number}")

    for number in range(5_000):
        await whole(number)
    await cache.set("name 1", "new", ttl=60)
    assert await whole(1) == "new"


# -- responses -------------------------------------------------------------------------------------------------------


async def test_a_response_is_tagged_by_what_was_read_for_it() -> None:
    def answer(scope: Any) -> Say:
        reads().name(("read",))
        return Say(headers=[FRESH])

    shop = Shop(answer)
    await shop.get()
    assert (await shop.get()).said == "hit"
    shop.engine.cut(["read"])
    assert (await shop.get()).said.startswith("fwd=uri-miss")


async def test_a_response_of_which_nobody_knows_what_was_read_is_not_stored() -> None:
    def answer(scope: Any) -> Say:
        reads().doubt("tables-unknown")
        return Say(headers=[FRESH])

    shop = Shop(answer)
    assert (await shop.get()).said == "fwd=uri-miss; detail=tables-unknown"
    assert shop.calls == 1
    await shop.get()
    assert shop.calls == 2


class Streaming:
    """An application that reads while its body goes out."""

    def __init__(self, *, doubt: str = "") -> None:
        self.doubt = doubt
        self.calls = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        await send({"type": "http.response.start", "status": 200, "headers": [FRESH]})
        for chunk in (b"a", b"b"):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await asyncio.sleep(1)
            reads().name((f"read {chunk.decode()}",))
        reads().doubt(self.doubt)
        await asyncio.sleep(1)
        await send({"type": "http.response.body", "body": b"c"})


async def test_what_is_read_while_the_body_goes_out_counts() -> None:
    shop = Shop(app := Streaming())
    await shop.get()
    assert ((await shop.get()).said, app.calls) == ("hit", 1)
    shop.engine.cut(["read b"])
    await shop.get()
    assert app.calls == 2


async def test_what_is_cut_while_the_body_goes_out_is_not_stored_nor_joined() -> None:
    shop = Shop(app := Streaming())
    first = shop.ask()
    await asyncio.sleep(1.5)  # `a` is read, `b` not yet
    shop.engine.cut(["read b"])
    joins = shop.ask()
    await turns()
    assert app.calls == 1
    shop.engine.cut(["read a"])
    late = shop.ask()
    assert [(await visit.done()).body for visit in (first, joins, late)] == [b"abc"] * 3
    assert app.calls == 2


async def test_what_turns_out_late_to_be_unknown_is_not_stored() -> None:
    shop = Shop(app := Streaming(doubt="tables-unknown"))
    assert (await shop.get()).body == b"abc"
    await shop.get()
    assert app.calls == 2


# -- stamps ----------------------------------------------------------------------------------------------------------


def test_what_is_complete_waits_for_the_cuts_of_others() -> None:
    stamps = Stamps()
    stamps.apply([Cut(id=1, tags=("a",))], 1)
    stamps.apply([Cut(id=3, tags=("b",))], 3)
    assert (stamps.position, stamps.complete) == (3, 1)
    stamps.apply([Cut(id=2, tags=("c",)), Cut(id=3, tags=("b",))], 3)
    assert stamps.complete == 3
    assert stamps.cut(["d"]) == stamps.complete == 4
    stamps.reset(9)
    assert stamps.complete == stamps.position


def test_what_is_complete_is_what_the_store_has_delivered_though_ids_of_other_namespaces_are_missing() -> None:
    stamps = Stamps()
    stamps.apply([Cut(id=4, tags=("own",))], 4)  # ahead of those before it
    assert stamps.complete == 0
    stamps.apply([Cut(id=2, tags=("a",))], 3, since=0)
    assert (stamps.position, stamps.complete) == (4, 3)
    stamps.apply([], 9, since=5)
    assert stamps.complete == 3, "nobody has said what the fourth and the fifth were"
    stamps.apply([Cut(id=4, tags=("own",))], 9, since=3)
    assert stamps.complete == 9
    stamps.apply([], 6, since=3)
    assert stamps.complete == 9
    stamps.reset(2)
    stamps.apply([], 5, since=2)
    assert stamps.complete == stamps.position == stamps.own(5)


async def test_a_cut_that_comes_late_hits_what_is_made_of_what_it_hits(clock: VirtualClock) -> None:
    parts = Parts(clock)
    await parts.part()
    log = parts.cache.engine.stamps
    log.apply([Cut(id=2, tags=("own",))], 2)  # another process has made the first, of which nobody has heard here
    await parts.whole()
    log.apply([Cut(id=1, tags=("inner",)), Cut(id=2, tags=("own",))], 2)
    assert await parts.made() == ["whole", "part"]


def stored(born: int) -> Value:
    return Value(payload=b"", tags=("tag",), born=born, made_at=0.0, fresh_until=60.0)


@pytest.mark.parametrize("cut", ["tag", "own"])
def test_a_value_that_is_cut_as_it_is_taken_is_as_old_as_it_is(cut: str) -> None:
    stamps, read = Stamps(), Reads()
    stamps.cut([cut])
    read.take("own", stored(0), stamps)
    assert (read.born, read.until) == (0, 0.0)
    assert set(read.tags) == {"tag", "own"}


def test_a_value_that_is_usable_now_is_as_good_as_made_now() -> None:
    stamps, read = Stamps(), Reads()
    stamps.cut(["other"])
    read.take("own", stored(0), stamps)
    assert (read.born, read.until) == (1, 60.0)


# -- what is noted ---------------------------------------------------------------------------------------------------


def test_many_parts_are_one_whole() -> None:
    read = Reads()
    for number in range(PARTS):
        read.part("whole", f"part {number}")
    assert len(read.tags) == PARTS
    read.part("whole", "one more")
    read.part("whole", "and another")
    assert read.tags == ("whole",)
    other = Reads()
    other.part("whole", "part")
    read.join(other)
    assert read.tags == ("whole",)
    assert not read.disjoint(["whole"])
    assert read.disjoint(["part"])
    assert not other.disjoint(["part"])


def test_more_tags_than_can_be_kept_are_unknown() -> None:
    read = Reads()
    read.name([str(number) for number in range(MOST)])
    reasons = [read.unknown]
    read.name(["more"])
    assert [*reasons, read.unknown] == ["", "too-many-tags"]


def test_threads_may_read_while_it_is_looked_at() -> None:
    read, over = Reads(), threading.Event()

    def work() -> None:
        number = 0
        while not over.is_set():
            number += 1
            read.part(f"whole {number % 7}", f"{number % 7} {number % 90}")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(2_000):
            assert len(set(read.tags)) == len(read.tags)
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("born", [3, 9])
def test_the_oldest_and_the_shortest_count(born: int) -> None:
    read = Reads()
    read.older(5, 100.0)
    read.older(born, 200.0)
    assert (read.born, read.until) == (min(born, 5), 100.0)


def test_a_change_may_ask_what_was_read_while_another_thread_reads_more() -> None:
    read, more = Reads(), count()

    class Tag(str):
        __slots__ = ()

        def __hash__(self) -> int:
            read.part(f"whole {next(more)}", "part")  # as another thread does between two looks
            return super().__hash__()

        __eq__ = str.__eq__

    read.part("first", "part")
    read.part("second", "part")
    assert read.disjoint([Tag("none")])


def test_a_whole_takes_the_place_of_its_parts_while_a_change_asks_for_them() -> None:
    read = Reads()

    class Tag(str):
        """Between the look for it among the tags and that among the parts another thread reads many more parts."""

        __slots__ = ()

        def __hash__(self) -> int:
            for number in range(PARTS):
                read.part("whole", str(number))
            return super().__hash__()

        __eq__ = str.__eq__

    read.part("whole", "part")
    assert not read.disjoint([Tag("part")])


def test_two_threads_that_tell_of_an_age_are_both_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    read, moved, lock = Reads(), threading.Event(), _reading._reckoning

    class Locked:
        def __enter__(self) -> None:
            if threading.current_thread() is other:
                moved.set()  # it waits, or is through
            lock.acquire()

        def __exit__(self, *_: object) -> None:
            lock.release()

    def tell() -> None:
        read.older(5.0)
        moved.set()

    class Born(float):
        """While it is compared, another thread tells of one that is older."""

        def __lt__(self, value: float) -> bool:
            other.start()
            assert moved.wait(30)
            return super().__lt__(value)

        __hash__ = float.__hash__

    other = threading.Thread(target=tell)
    monkeypatch.setattr(_reading, "_reckoning", Locked())
    read.older(Born(9.0))
    other.join()
    assert read.born == 5


def test_a_thread_that_has_no_doubt_does_not_take_away_that_of_another() -> None:
    class Between(Reads):
        """As soon as one has seen that there is no doubt, another thread has one."""

        def __getattribute__(self, name: str) -> Any:
            found = super().__getattribute__(name)
            if name == "unknown" and another:
                self.unknown = another.pop()
            return found

    read, another = Between(), ["tables-unknown"]
    read.doubt("")
    seen = read.unknown
    assert read.unknown == "tables-unknown", seen
