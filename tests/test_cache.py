"""The façade: settings, invalidation, mutation, what is told and counted, closing."""

import asyncio
import gc
import inspect
import logging
import re
import weakref
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI

from tiercel import Cache, ConfigurationError
from tiercel._core.events import Event, Invalidated
from tiercel._engine.reports import Stats
from tiercel.testing import VirtualClock, VirtualLoop

SETTINGS = (Path(__file__).parent.parent / "docs" / "settings.md").read_text()


class Seen:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)


def settings_of(cache: Cache) -> dict[str, Any]:
    limits = cache.engine.limits
    return {
        "memory": cache.stats().bound,
        "namespace": cache._named._namespace.decode(),
        "jitter": limits.jitter,
        "soft_timeout": limits.soft,
        "hard_timeout": limits.hard,
    }


def refusal(make: Callable[[], object]) -> str:
    with pytest.raises(ConfigurationError) as refused:
        make()
    return str(refused.value)


# -- settings --------------------------------------------------------------------------------------------------------


DEFAULTS = {"memory": 256_000_000, "namespace": "tiercel", "jitter": 0.05, "soft_timeout": 1.0, "hard_timeout": 60.0}


@pytest.mark.parametrize(
    ("environ", "differs"),
    [
        ({}, {}),
        ({"TIERCEL_URL": "memory://"}, {}),
        ({"TIERCEL_MEMORY": "64MB"}, {"memory": 64_000_000}),
        ({"TIERCEL_MEMORY": " 1 GiB "}, {"memory": 2**30}),
        ({"TIERCEL_MEMORY": "65536"}, {"memory": 65_536}),
        ({"TIERCEL_NAMESPACE": "shop"}, {"namespace": "shop"}),
        ({"TIERCEL_JITTER": "0.1"}, {"jitter": 0.1}),
        ({"TIERCEL_JITTER": "0"}, {"jitter": 0.0}),
        ({"TIERCEL_SOFT_TIMEOUT": "0.5"}, {"soft_timeout": 0.5}),
        ({"TIERCEL_SOFT_TIMEOUT": "2s"}, {"soft_timeout": 2.0}),
        ({"TIERCEL_SOFT_TIMEOUT": "none"}, {"soft_timeout": None}),
        ({"TIERCEL_HARD_TIMEOUT": "2m"}, {"hard_timeout": 120.0}),
        ({"TIERCEL_HARD_TIMEOUT": "None"}, {"hard_timeout": None}),
        ({"TIERCEL_MEMORY": "", "TIERCEL_URL": " ", "TIERCEL_HARD_TIMEOUT": ""}, {}),
        ({"WORKERS": "4", "MEMORY": "1MB"}, {}),
    ],
    ids=repr,
)
def test_a_setting_comes_from_its_variable(environ: dict[str, str], differs: dict[str, Any]) -> None:
    assert settings_of(Cache.from_env(environ)) == {**DEFAULTS, **differs}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TIERCEL_URL", "mysql://localhost"),
        ("TIERCEL_URL", "here"),
        ("TIERCEL_MEMORY", "much"),
        ("TIERCEL_MEMORY", "256mb"),
        ("TIERCEL_MEMORY", "1.5GB"),
        ("TIERCEL_MEMORY", "63999"),
        ("TIERCEL_MEMORY", "-64MB"),
        ("TIERCEL_COMPRESS_ABOVE", "a lot"),
        ("TIERCEL_MEMORY", "9" * 5000),
        ("TIERCEL_JITTER", "1"),
        ("TIERCEL_JITTER", "-0.1"),
        ("TIERCEL_JITTER", "nan"),
        ("TIERCEL_JITTER", "some"),
        ("TIERCEL_SOFT_TIMEOUT", "soon"),
        ("TIERCEL_SOFT_TIMEOUT", "nan"),
        ("TIERCEL_SOFT_TIMEOUT", "-1"),
        ("TIERCEL_HARD_TIMEOUT", "inf"),
        ("TIERCEL_HARD_TIMEOUT", "off"),
    ],
)
def test_a_variable_that_cannot_be_read_is_named(variable: str, value: str) -> None:
    message = refusal(lambda: Cache.from_env({variable: value}))
    assert message.startswith(variable)
    assert "Give " in message


def test_a_variable_that_nobody_reads_is_a_mistake() -> None:
    message = refusal(lambda: Cache.from_env({"TIERCEL_MEMROY": "1GB"}))
    assert message.startswith("TIERCEL_MEMROY is unknown. Did you mean TIERCEL_MEMORY? There are TIERCEL_URL, ")
    assert refusal(lambda: Cache.from_env({"TIERCEL_WINDOW": ""})).startswith("TIERCEL_WINDOW is unknown. There are")


def test_what_the_program_says_itself_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIERCEL_JITTER", "0.2")
    monkeypatch.setenv("TIERCEL_NAMESPACE", "shop")
    assert settings_of(Cache.from_env(namespace="bar")) == {**DEFAULTS, "jitter": 0.2, "namespace": "bar"}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"url": "mysql://u:secret@db"}, "Cache(url=): 'mysql://db' is no place for a cache. Give 'memory://'"),
        ({"url": "redis://host:port"}, "redis://host:port cannot be read: "),
        ({"url": "redis:/localhost"}, "Cache(url=): 'redis:/localhost' is no URL. Two slashes stand behind 'redis:',"),
        ({"url": "redis:/shop:secret@localhost"}, "Cache(url=): 'redis:/localhost' is no URL."),
        ({"url": "unix:/run/redis.sock"}, "Cache(url=): 'unix:/run/redis.sock' is no URL. Two slashes"),
        ({"url": "mysql:u:secret@db"}, "Cache(url=): 'mysql:db' is no place for a cache."),
        ({"url": "secret@db"}, "Cache(url=): 'db' is no place for a cache."),
        ({"url": "redis+sentinel://host:26379"}, "the name of the service is missing"),
        ({"url": "local://host/path"}, "Cache(url=): 'local://host/path' is no place"),
        ({"url": "local:///"}, "Cache(url=): 'local:///' is no place"),
        ({"url": "memory://x"}, "Cache(url=): 'memory://x' is no place"),
        ({"compress_above": "much"}, "Cache(compress_above=): 'much' is not a size. Give bytes, or text such as"),
        ({"compress_above": -1}, "Cache(compress_above=): -1 is not a size."),
        ({"store_size": "1"}, "Cache(store_size=): '1' is not a size"),
        ({"store_timeout": 0}, "Cache(store_timeout=) cannot be 0: nothing would ever be done in that time."),
        ({"url": "redis://host/0?nope=1"}, "unexpected keyword argument 'nope'"),
        ({"url": "redis+cluster://host?nope=1"}, "unexpected keyword argument 'nope'"),
        (
            {"url": "redis://host/shop"},
            "redis://host/shop cannot be read: invalid literal for int() with base 10: 'shop'",
        ),
        ({"url": "redis+cluster://host/3"}, "redis+cluster://host/3 cannot be read: a cluster has no databases"),
        ({"url": "local:/var/shop"}, "Cache(url=): 'local:/var/shop' is no place for a cache"),
        ({"url": "local:///var/shop?size=1"}, "Cache(url=): 'local:///var/shop?size=1' is no place for a cache"),
        ({"store_timeout": -1}, "Cache(store_timeout=) cannot be -1"),
        ({"secret": "short"}, "Cache(secret=): a secret of 5 characters is too short. Give 16 or more, at random."),
        ({"memory": 63_999}, "Cache(memory=): 63999 is not a size. Give bytes, 64000 at least"),
        ({"memory": 1e9}, "Cache(memory=)"),
        ({"memory": True}, "Cache(memory=)"),
        ({"memory": None}, "Cache(memory=)"),
        ({"jitter": 1.0}, "Cache(jitter=): 1.0 is not a share"),
        ({"jitter": None}, "Cache(jitter=)"),
        ({"jitter": True}, "Cache(jitter=)"),
        ({"soft_timeout": -1}, "Cache(soft_timeout=) cannot be -1"),
        ({"hard_timeout": "none"}, "Cache(hard_timeout=) cannot be 'none'"),
        ({"observers": [print]}, "Cache(observers=): [<built-in function print>] is no list of objects with a method"),
        ({"observers": Seen()}, "Cache(observers=)"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_with_its_name(given: dict[str, Any], says: str) -> None:
    assert says in refusal(lambda: Cache(**given))


def test_durations_are_given_as_for_a_policy() -> None:
    cache = Cache(soft_timeout=timedelta(seconds=2), hard_timeout="2m")
    assert (cache.engine.limits.soft, cache.engine.limits.hard) == (2.0, 120.0)


def test_the_table_of_settings_is_what_there_is() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (?:`(TIERCEL_\w+)` )?\| .* \| (.*) \|$", SETTINGS, re.MULTILINE)
    accepted = set(inspect.signature(Cache).parameters)
    assert {name for name, _, _ in rows} - accepted == set()
    assert accepted - {name for name, _, _ in rows} == set()
    for name, variable, default in rows:
        assert variable in {"", f"TIERCEL_{name.upper()}"}
        if variable:
            assert settings_of(Cache.from_env({variable: default.strip("`")})) == DEFAULTS


# -- invalidation ----------------------------------------------------------------------------------------------------


async def test_an_acknowledgement_has_its_place_in_the_log_and_the_name_of_this_process() -> None:
    cache = Cache()
    acks = [await cache.invalidate("a"), await cache.delete("b"), await cache.clear()]
    acks.append(await cache.write_through("c", 1, print, ttl=60))
    assert [ack.id for ack in acks] == sorted({ack.id for ack in acks})
    assert acks[0].id > 0
    assert all(ack.durable for ack in acks)
    assert {ack.applied for ack in acks} == {acks[0].applied}
    assert len(acks[0].applied) == 1


@pytest.mark.parametrize("tags", [(["a", "b"],), (7,), ("a", None)])
async def test_a_tag_that_is_no_string_is_refused(tags: Any) -> None:
    cache = Cache()
    with pytest.raises(ConfigurationError, match="a tag is a string"):
        await cache.invalidate(*tags)
    with pytest.raises(ConfigurationError, match="a tag is a string"):
        async with cache.mutation(*tags):
            raise AssertionError("it has begun")


async def test_a_soft_invalidation_lets_what_is_stored_be_served() -> None:
    cache = Cache()
    await cache.set("key", 1, ttl=60, tags="a")
    await cache.invalidate("a", soft=True)
    assert await cache.get("key") == 1
    await cache.invalidate("a", wait="all")
    assert await cache.get("key") is None


async def test_clearing_forgets_everything_and_gives_the_bytes_back() -> None:
    cache = Cache()
    for number in range(100):
        await cache.set(str(number), number, ttl=60)
    await cache.clear()
    assert (cache.stats().entries, cache.stats().weight) == (0, 0)
    assert await cache.get("7") is None


@pytest.mark.parametrize("ends", [None, ValueError(), asyncio.CancelledError()])
async def test_a_mutation_invalidates_when_it_is_over_whether_or_not_it_has_succeeded(
    ends: BaseException | None,
) -> None:
    cache = Cache()
    await cache.set("key", "old", ttl=60, tags="product:1")

    async def change() -> None:
        async with cache.mutation("product:1", "products"):
            assert await cache.get("key") is None
            await cache.set("key", "meanwhile", ttl=60, tags="products")
            assert await cache.get("key") is None
            if ends is not None:
                raise ends

    outcome = (await asyncio.gather(change(), return_exceptions=True))[0]
    assert type(outcome) is type(ends)
    assert await cache.get("key") is None


async def test_what_was_read_before_a_mutation_was_over_is_not_stored_after_it(clock: VirtualClock) -> None:
    """The hard case: a reader sees the old row, then the change is committed, then the reader returns."""
    cache = Cache(clock=clock)

    async def read() -> str:
        await asyncio.sleep(2)
        return "old"

    async def change() -> None:
        async with cache.mutation("product:1"):
            await asyncio.sleep(1)

    assert (await asyncio.gather(cache.get_or_set("key", read, ttl=60, tags="product:1"), change()))[0] == "old"
    assert await cache.get("key") is None


async def test_an_empty_tag_is_refused() -> None:
    cache = Cache()
    with pytest.raises(ConfigurationError, match=r'^cache.invalidate\(""\): a tag is not empty'):
        await cache.invalidate("a", "")
    with pytest.raises(ConfigurationError, match=r'^cache.mutation\(""\): a tag is not empty'):
        async with cache.mutation(""):
            raise AssertionError("it has begun")
    assert '@cache.invalidates(""): a tag is not empty' in refusal(lambda: cache.invalidates(""))


def test_an_invalidation_that_names_nothing_is_a_mistake() -> None:
    assert 'Name some tags: @cache.invalidates("products")' in refusal(lambda: Cache().invalidates())


def read() -> int:
    return 1


@pytest.mark.parametrize("decorator", ["response", "memoize"])
@pytest.mark.parametrize(("given", "shown"), [(read, "the function itself"), (60, "60"), ("5m", "'5m'")])
def test_a_decorator_without_names_says_how_it_is_written(decorator: str, given: object, shown: str) -> None:
    said = refusal(lambda: getattr(Cache(), decorator)(given))
    assert said == f"@cache.{decorator} was given {shown}. Name what it takes: @cache.{decorator}(ttl=60)."


@pytest.mark.parametrize(("given", "says"), [(read, "was given a function"), (["a"], "a tag is a string"), (1, "(1)")])
def test_what_is_no_tag_is_refused_where_it_is_written(given: Any, says: str) -> None:
    assert says in refusal(lambda: Cache().invalidates(given))


def test_a_field_that_cannot_be_read_names_its_decorator() -> None:
    said = refusal(lambda: Cache().response(ttl=60, stale_if_error=-1))
    assert said.startswith("@cache.response(...): Policy.stale_if_error cannot be -1.")


async def test_a_key_that_is_no_string_is_refused() -> None:
    cache, key = Cache(), cast("Any", 1)
    for call in (
        cache.get(key),
        cache.set(key, 1, ttl=1),
        cache.delete(key),
        cache.get_or_set(key, read, ttl=1),
        cache.write_through(key, 1, print, ttl=1),
    ):
        with pytest.raises(TypeError, match=r"A key is a string, not int: 1\. Give a string, such as '1'"):
            await call


@pytest.mark.parametrize("fields", [{}, {"ttl": None}, {"ttl": -1}, {"ttl": 60, "tll": 1}, {"ttl": 60, "per": ""}])
def test_a_response_that_is_declared_wrongly_is_refused_where_that_is_written(fields: dict[str, Any]) -> None:
    assert refusal(lambda: Cache().response(**fields))


# -- what is told and counted ----------------------------------------------------------------------------------------


class Broken:
    def on_event(self, event: Event) -> None:
        raise LookupError(event)


async def test_an_observer_that_raises_is_logged_and_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    seen = Seen()
    cache, app = Cache(observers=[Broken(), seen]), FastAPI()
    cache.install(app)

    @cache.memoize(ttl=60)
    def double(number: int) -> int:
        return 2 * number

    @app.get("/{number}")
    @cache.response(ttl=60)
    async def read(number: int) -> int:
        return double(number)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as http:
        assert [(await http.get("/4")).text for _ in range(2)] == ["8", "8"]
    await cache.set("key", 1, ttl=60, tags="a")
    assert await cache.get("key") == 1
    await cache.invalidate("a")
    assert double(4) == 8
    assert len(seen.events) == len(caplog.records) > 5
    assert {(record.name, record.levelno) for record in caplog.records} == {("tiercel", logging.ERROR)}


async def test_observers_are_told_of_invalidations() -> None:
    seen = Seen()
    cache = Cache(observers=[seen])
    await cache.invalidate("a", "b", soft=True)
    await cache.clear()
    assert seen.events == [Invalidated(id=1, tags=("a", "b"), soft=True), Invalidated(id=2, tags=("*",), soft=False)]


@pytest.mark.parametrize(
    ("counted", "ratio"),
    [
        ({}, 0.0),
        ({"hits": 3, "fills": 1}, 0.75),
        ({"stale": 1, "collapsed": 1, "fills": 2}, 0.5),
        ({"hits": 1, "missed": 3}, 0.25),
        ({"hits": 1, "bypassed": 99}, 1.0),
    ],
)
def test_the_hit_ratio_is_the_share_of_answers_that_nobody_was_asked_for(counted: dict[str, int], ratio: float) -> None:
    none = dict.fromkeys(Stats.__dataclass_fields__, 0)
    assert Stats(**{**none, **counted}).hit_ratio == ratio


async def test_everything_that_is_counted_is_shown(clock: VirtualClock) -> None:
    cache = Cache(clock=clock)
    counts = cache.engine.counts
    for number, name in enumerate(counts.__slots__, start=1):
        setattr(counts, name, number)
    stats = cache.stats()
    assert [getattr(stats, name) for name in counts.__slots__] == list(range(1, len(counts.__slots__) + 1))


# -- closing ---------------------------------------------------------------------------------------------------------


def test_a_cache_can_be_used_on_one_loop_after_another(clock: VirtualClock) -> None:
    cache, calls = Cache(clock=clock), list[int]()

    @cache.memoize(ttl=60, tags="numbers")
    async def number() -> int:
        calls.append(1)
        await asyncio.sleep(1)
        return len(calls)

    async def use() -> tuple[int, Any, int]:
        found = await asyncio.gather(number(), number())
        await cache.set("key", found[0], ttl=60)
        await cache.aclose()
        return found[0], await cache.get("key"), len(cache.engine.background)

    for expected in (1, 1, 2):
        if expected == 2:
            asyncio.run(cache.invalidate("numbers"))
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            assert runner.run(use()) == (expected, expected, 0)


async def test_an_installed_cache_is_closed_with_its_application() -> None:
    cache, app = Cache(), FastAPI()
    cache.install(app)

    @cache.memoize(ttl=60)
    async def hanging() -> int:
        await asyncio.Event().wait()
        return 1

    async with app.router.lifespan_context(app):
        waiting = asyncio.create_task(hanging())
        await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="as at the end of the application"):
        await waiting


async def test_a_cache_that_nobody_holds_is_gone() -> None:
    cache = Cache()
    await cache.get_or_set("key", lambda: 1, ttl=60)
    await cache.aclose()
    gone = weakref.ref(cache)
    del cache
    gc.collect()
    assert gone() is None
