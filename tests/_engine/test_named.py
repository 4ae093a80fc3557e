"""Values under names: set, got, deleted, made where there is none, written through."""

import asyncio
import threading
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from tiercel import Cache, ConfigurationError
from tiercel._core.events import Answered, Event
from tiercel._engine import stamps
from tiercel.testing import VirtualClock


class Seen:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def cache(clock: VirtualClock, seen: Seen) -> Cache:
    return Cache(clock=clock, observers=[seen], jitter=0.0, draw=lambda: 0.0)


async def slowly(value: Any, seconds: float = 1.0) -> Any:
    await asyncio.sleep(seconds)
    return value


async def begun(*calls: Awaitable[Any]) -> list["asyncio.Future[Any]"]:
    """Let each go as far as it gets while no time passes."""
    tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(call) for call in calls]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


# -- get, set, delete ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        0,
        "",
        b"bytes",
        {"a": [1, (2.5, None)], 3: {"x"}},
        datetime(2026, 1, 1, tzinfo=UTC),
        UUID(int=7),
        frozenset({1}),
        10**30,
    ],
    ids=repr,
)
async def test_what_was_set_is_got_as_it_was(cache: Cache, value: object) -> None:
    await cache.set("key", value, ttl=60)
    got = await cache.get("key")
    assert (type(got), got) == (type(value), value)


async def test_what_a_caller_changes_reaches_nobody_else(cache: Cache) -> None:
    value = {"numbers": [1]}
    await cache.set("key", value, ttl=60)
    value["numbers"].append(2)
    (await cache.get("key"))["numbers"].append(3)
    (await cache.get_or_set("key", dict, ttl=60))["numbers"].append(4)
    assert await cache.get("key") == {"numbers": [1]}


async def test_a_value_is_gone_after_its_lifetime(cache: Cache) -> None:
    await cache.set("key", 1, ttl="1m")
    await asyncio.sleep(59)
    assert await cache.get("key") == 1
    await asyncio.sleep(1)
    assert await cache.get("key") is None


async def test_a_deleted_value_is_gone_and_so_is_one_with_a_tag_that_was_cut(cache: Cache) -> None:
    for key in "abc":
        await cache.set(key, key, ttl=60, tags=("letters", f"letter:{key}"))
    await cache.delete("a")
    await cache.invalidate("letter:b")
    assert [await cache.get(key) for key in "abc"] == [None, None, "c"]
    await cache.invalidate("letters")
    assert await cache.get("c") is None


async def test_names_and_namespaces_keep_values_apart(clock: VirtualClock) -> None:
    cache = Cache(clock=clock)
    for name in ("", "a", "A", "a ", "\udcff", "a" * 10_000):
        await cache.set(name, name, ttl=60)
    assert [await cache.get(name) for name in ("", "a", "A", "a ", "\udcff")] == ["", "a", "A", "a ", "\udcff"]
    assert cache._named._key("a") != Cache(namespace="other")._named._key("a")


class Product(BaseModel):
    name: str


ITSELF: list[object] = []
ITSELF.append(ITSELF)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (Product(name="lamp"), "only an annotation could describe: Product"),
        ([Product(name="lamp")], "only an annotation could describe: list"),
        (iter([1]), "only an annotation could describe: list_iterator"),
        (threading.Lock(), "only an annotation could describe: lock"),
        (ITSELF, "nested too deeply, or holds itself"),
    ],
    ids=["model", "models", "iterator", "lock", "itself"],
)
async def test_what_cannot_be_stored_is_refused_and_changes_nothing(cache: Cache, value: object, says: str) -> None:
    await cache.set("key", 1, ttl=60)
    written: list[object] = []
    with pytest.raises(TypeError, match=says):
        await cache.set("key", value, ttl=60)
    with pytest.raises(TypeError, match=says):
        await cache.write_through("key", value, written.append, ttl=60)
    assert await cache.get("key") == 1
    assert written == []


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        ({"ttl": None}, "The ttl of 'key' cannot be None"),
        ({"ttl": -1}, "The ttl of 'key' cannot be -1"),
        ({"ttl": "soon"}, "The ttl of 'key' cannot be 'soon'"),
        ({"ttl": 60, "tags": [1]}, "tags cannot be"),
        ({"ttl": 60, "tags": ""}, "tags cannot be"),
        ({"ttl": 60, "tags": lambda: "a"}, "The tags of 'key' cannot be a callable"),
    ],
)
async def test_terms_that_cannot_work_are_refused(cache: Cache, terms: dict[str, Any], says: str) -> None:
    for call in (cache.set("key", 1, **terms), cache.get_or_set("key", int, **terms)):
        with pytest.raises(ConfigurationError, match=says):
            await call
    with pytest.raises(ConfigurationError, match=says):
        await cache.write_through("key", 1, print, **terms)


async def test_setting_many_keys_makes_the_log_forget_nothing(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cut that is kept is one that another tag's has to go for, in the end."""
    cache.engine.stamps = cache.engine.tiers._stamps = stamps.Stamps(limit=10)
    await cache.set("first", 1, ttl=60)
    for number in range(100):
        await cache.set(str(number), number, ttl=60)
    assert await cache.get("first") == 1
    assert cache.engine.stamps.floor == 0


# -- get_or_set ------------------------------------------------------------------------------------------------------


async def test_a_value_is_made_once_however_many_ask(cache: Cache) -> None:
    made: list[int] = []

    async def load() -> list[int]:
        made.append(1)
        await asyncio.sleep(1)
        return [1, 2]

    assert await asyncio.gather(*[cache.get_or_set("key", load, ttl=60) for _ in range(100)]) == [[1, 2]] * 100
    assert await cache.get_or_set("key", load, ttl=60) == await cache.get("key") == [1, 2]
    assert made == [1]


async def test_none_is_made_once_as_well(cache: Cache) -> None:
    made: list[int] = []
    for _ in range(3):
        assert await cache.get_or_set("key", lambda: made.append(1), ttl=60) is None
    assert made == [1]


async def test_what_a_factory_raises_is_raised_and_not_stored(cache: Cache) -> None:
    with pytest.raises(ZeroDivisionError):
        await cache.get_or_set("key", lambda: 1 / 0, ttl=60)
    assert await cache.get_or_set("key", lambda: 1, ttl=60) == 1


async def test_a_factory_of_something_that_only_an_annotation_describes_is_a_mistake(cache: Cache) -> None:
    with pytest.raises(TypeError, match="memoize a function that says what it returns"):
        await cache.get_or_set("key", lambda: Product(name="lamp"), ttl=60)


async def test_a_deletion_condemns_what_is_just_being_made(cache: Cache) -> None:
    early = await begun(cache.get_or_set("key", lambda: slowly("old"), ttl=60))
    await cache.delete("key")
    late = await begun(cache.get_or_set("key", lambda: slowly("new"), ttl=60))
    assert [await early[0], await late[0]] == ["old", "new"]
    assert await cache.get("key") == "new"


async def test_what_is_set_while_a_factory_runs_stays(cache: Cache) -> None:
    early = await begun(cache.get_or_set("key", lambda: slowly("made"), ttl=60))
    await cache.set("key", "set", ttl=60)
    assert await cache.get_or_set("key", lambda: slowly("made"), ttl=60) == "set"
    assert await early[0] == "made"
    assert await cache.get("key") == "set"


async def test_what_is_set_while_a_factory_runs_that_nobody_joins_any_more_stays_as_well(clock: VirtualClock) -> None:
    cache = Cache(clock=clock, hard_timeout=5)
    early = await begun(cache.get_or_set("key", lambda: slowly("early", 60), ttl=600))
    await asyncio.sleep(10)
    assert await cache.get_or_set("key", lambda: "late", ttl=600) == "late"
    await cache.set("key", "set", ttl=600)
    assert await early[0] == "early"
    assert await cache.get("key") == "set"


async def test_a_tag_that_is_cut_condemns_what_is_just_being_made(cache: Cache) -> None:
    early = await begun(cache.get_or_set("key", lambda: slowly("old"), ttl=60, tags="words"))
    await cache.invalidate("words")
    assert await early[0] == "old"
    assert await cache.get("key") is None


# -- write_through ---------------------------------------------------------------------------------------------------


async def test_a_value_is_written_and_then_stored(cache: Cache) -> None:
    written: list[int] = []

    async def save(value: int) -> None:
        assert await cache.get("key") is None
        written.append(value)

    ack = await cache.write_through("key", 10, save, ttl=60, tags="limits")
    assert (written, await cache.get("key"), ack.durable) == ([10], 10, True)
    await cache.write_through("key", 11, written.append, ttl=60, tags="limits")
    assert (written, await cache.get("key")) == ([10, 11], 11)
    await cache.invalidate("limits")
    assert await cache.get("key") is None


@pytest.mark.parametrize("ends", [OSError("down"), asyncio.CancelledError()])
async def test_a_writer_that_fails_leaves_nothing_valid(cache: Cache, ends: BaseException) -> None:
    await cache.set("key", "old", ttl=60)

    async def fail(_: str) -> None:
        raise ends

    with pytest.raises(type(ends)):
        await cache.write_through("key", "new", fail, ttl=60)
    assert await cache.get("key") is None


async def test_while_a_value_is_written_no_old_one_is_served_nor_kept(cache: Cache) -> None:
    await cache.set("key", "old", ttl=60)
    write = await begun(cache.write_through("key", "new", slowly, ttl=60))
    assert await cache.get("key") is None
    assert await cache.get_or_set("key", lambda: "old", ttl=60) == "old"
    assert await cache.get("key") is None
    await write[0]
    assert await cache.get("key") == "new"


@pytest.mark.parametrize(("first", "second"), [(1.0, 1.0), (2.0, 0.5), (1.0, 5.0)])
async def test_of_two_writes_at_the_same_time_neither_is_stored(cache: Cache, first: float, second: float) -> None:
    await cache.set("key", "old", ttl=600)
    one = await begun(cache.write_through("key", "one", lambda value: slowly(value, first), ttl=600))
    await asyncio.sleep(0.25)
    two = await begun(cache.write_through("key", "two", lambda value: slowly(value, second), ttl=600))
    sooner, _ = await asyncio.wait([*one, *two], return_when=asyncio.FIRST_COMPLETED)
    assert await cache.get("key") is None
    await asyncio.gather(*one, *two)
    assert len(sooner) == 1
    assert await cache.get("key") is None


async def test_a_write_whose_tag_is_cut_meanwhile_is_not_stored(cache: Cache) -> None:
    write = await begun(cache.write_through("key", "new", slowly, ttl=60, tags="words"))
    await cache.invalidate("words")
    await write[0]
    assert await cache.get("key") is None


async def test_a_write_during_which_everything_is_cleared_is_not_stored(cache: Cache) -> None:
    write = await begun(cache.write_through("key", "new", slowly, ttl=60))
    await cache.clear()
    await write[0]
    assert await cache.get("key") is None


async def test_of_a_write_and_a_set_at_the_same_time_neither_stays(cache: Cache) -> None:
    write = await begun(cache.write_through("key", "written", slowly, ttl=60))
    await cache.set("key", "set", ttl=60)
    await write[0]
    assert await cache.get("key") is None


async def test_what_was_read_before_a_write_was_done_is_not_stored_after_it(cache: Cache) -> None:
    """The hard case: a factory reads the old row, the new one is written, the factory returns."""
    reading = await begun(cache.get_or_set("key", lambda: slowly("old", 2), ttl=60))
    await cache.write_through("key", "new", slowly, ttl=60)
    assert await reading[0] == "old"
    assert await cache.get("key") == "new"


# -- counted ---------------------------------------------------------------------------------------------------------


async def test_getting_is_counted_by_what_was_found_and_told_under_one_name(cache: Cache, seen: Seen) -> None:
    await cache.set("key", 1, ttl=60, tags="a")
    await cache.get("key")
    await cache.invalidate("a", soft=True)
    await cache.get("key")
    await cache.get("other")
    await cache.get_or_set("another", int, ttl=60)
    await cache.get_or_set("another", int, ttl=60)
    told = [(one.key, one.result) for one in seen.events if isinstance(one, Answered)]
    assert told == [("value", result) for result in ("hit", "stale", "miss", "miss", "hit")]
    stats = cache.stats()
    assert (stats.hits, stats.stale, stats.missed, stats.fills, stats.hit_ratio) == (2, 1, 1, 1, 3 / 5)
