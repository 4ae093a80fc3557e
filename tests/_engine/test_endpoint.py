"""Declared endpoints, and what one request sees of the cache."""

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from enum import Enum, IntEnum, StrEnum
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tiercel import Cache, ConfigurationError
from tiercel._core.events import Event, Invalidated
from tiercel._engine.endpoint import Visit, current, declaration_of, declare, rendered


class Log:
    """A cache, and what was invalidated in it."""

    def __init__(self) -> None:
        self.cuts: list[tuple[str, ...]] = []
        self.cache = Cache(observers=[self])
        self.engine = self.cache.engine

    def on_event(self, event: Event) -> None:
        if isinstance(event, Invalidated):
            self.cuts.append(event.tags)


# -- declaring -------------------------------------------------------------------------------------------------------


async def asynchronous(number: int) -> int:
    return number


def synchronous(number: int) -> int:
    return number


async def yielding(number: int) -> AsyncIterator[int]:
    yield number


def yielding_in_a_thread(number: int) -> Iterator[int]:
    yield number


class Callables:
    async def __call__(self, number: int) -> int:
        return number


class YieldingCallables:
    def __call__(self, number: int) -> Iterator[int]:
        yield number


def decorated(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """As many a decorator does it: plain, whatever it wraps."""

    @functools.wraps(endpoint)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return endpoint(*args, **kwargs)

    return wrapped


ENDPOINTS: list[Callable[..., Any]] = [
    asynchronous,
    synchronous,
    yielding,
    yielding_in_a_thread,
    Callables(),
    functools.partial(asynchronous),
    YieldingCallables(),
    functools.partial(yielding),
    decorated(asynchronous),
    decorated(synchronous),
    decorated(yielding),
]
every_endpoint = pytest.mark.parametrize("endpoint", ENDPOINTS, ids=range(len(ENDPOINTS)))


@every_endpoint
def test_a_stand_in_has_the_signature_of_the_endpoint_and_leaves_that_as_it_was(endpoint: Callable[..., Any]) -> None:
    cache = Cache()
    declared = cache.response(ttl=60)(endpoint)
    assert inspect.signature(declared) == inspect.signature(endpoint)
    assert declared is not endpoint
    assert (declaration_of(endpoint), declaration_of(declared)) == (None, cache.declarations[0])
    assert cache.declarations[0].endpoint is endpoint


def test_an_endpoint_can_be_declared_with_a_cache_for_each_application() -> None:
    for endpoint in ENDPOINTS:
        for cache in (Cache(), Cache()):
            cache.response(ttl=60)(endpoint)


def test_what_is_stacked_is_one_declaration_of_the_endpoint_below() -> None:
    cache = Cache()
    declared = cache.invalidates("a")(cache.response(ttl=60, tags="b")(cache.invalidates("c")(asynchronous)))
    found = declaration_of(declared)
    assert found is not None
    assert found.policy is not None
    assert (found.endpoint, found.policy.tags, found.invalidates) == (asynchronous, ("b",), ("c", "a"))


def test_each_declaration_has_a_policy_of_its_own() -> None:
    cache = Cache()
    decorate = cache.response(ttl=60)
    decorate(asynchronous)
    decorate(synchronous)
    one, other = [declaration.policy for declaration in cache.declarations]
    assert one == other
    assert one is not other


def twice(cache: Cache, other: Cache) -> None:
    cache.response(ttl=1)(cache.response(ttl=2)(asynchronous))


def two_caches(cache: Cache, other: Cache) -> None:
    cache.response(ttl=1)(other.invalidates("x")(asynchronous))


def two_caches_around_another_decorator(cache: Cache, other: Cache) -> None:
    cache.response(ttl=1)(functools.wraps(asynchronous)(other.invalidates("x")(asynchronous)))


def tags_over_what_is_not_returned(cache: Cache, other: Cache) -> None:
    cache.response(ttl=1, tags=lambda arguments, value: ["x"])(yielding)


def nothing_to_invalidate(cache: Cache, other: Cache) -> None:
    cache.invalidates()


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        (twice, r"asynchronous has @cache\.response twice.*Keep one"),
        (two_caches, r"asynchronous is declared with two caches.*one Cache object"),
        (two_caches_around_another_decorator, r"asynchronous is declared with two caches"),
        (tags_over_what_is_not_returned, r"yielding yields.*Give templates"),
        (nothing_to_invalidate, r"@cache\.invalidates\(\) invalidates nothing.*Name some"),
    ],
)
def test_a_mistake_is_an_error_that_says_what_where_and_what_to_do(
    mistake: Callable[[Cache, Cache], None], says: str
) -> None:
    with pytest.raises(ConfigurationError, match=says):
        mistake(Cache(), Cache())


# -- calling by hand -------------------------------------------------------------------------------------------------


@every_endpoint
async def test_fastapi_runs_a_stand_in_as_it_runs_the_endpoint(endpoint: Callable[..., Any]) -> None:
    cache, app = Cache(), FastAPI()
    cache.install(app)
    app.add_api_route("/{number}", cache.response(ttl=60)(endpoint))
    app.add_api_route("/{number}", cache.invalidates("x")(endpoint), methods=["PUT"])
    app.add_api_route("/bare/{number}", endpoint)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://shop") as http:
        bare = await http.get("/bare/7")
        assert bare.text.strip() == "7"
        for answer in (await http.get("/7"), await http.get("/7"), await http.put("/7")):
            assert (answer.status_code, answer.content) == (200, bare.content)
            assert answer.headers["content-type"] == bare.headers["content-type"]


async def test_a_declared_endpoint_that_is_called_by_hand_does_what_it_did() -> None:
    cache = Cache()
    assert await cache.response(ttl=60)(asynchronous)(1) == 1
    assert await cache.response(ttl=60)(Callables())(number=1) == 1
    assert cache.invalidates("x")(synchronous)(1) == 1
    assert list(cache.response(ttl=60)(yielding_in_a_thread)(1)) == [1]
    assert [number async for number in cache.response(ttl=60)(yielding)(1)] == [1]
    assert cache.stats().fills == 0


async def test_a_cached_endpoint_that_blocks_runs_in_a_thread_and_is_awaited() -> None:
    import threading

    def where() -> str:
        return threading.current_thread().name

    declared: Any = Cache().response(ttl=60)(where)
    assert await declared() != threading.current_thread().name


async def test_arguments_that_cannot_be_bound_are_the_usual_error() -> None:
    declared: Any = Cache().invalidates("x:{number}")(asynchronous)
    with pytest.raises(TypeError, match="argument"):
        await declared()


# -- tags ------------------------------------------------------------------------------------------------------------


class Kind(Enum):
    BIG = "big"


class Named(str, Enum):  # noqa: UP042 - what many an application has
    BIG = "big"


class Level(IntEnum):
    LOW = 1


class Colour(StrEnum):
    RED = "red"


class Box:
    def __init__(self, kind: Kind) -> None:
        self.kind = kind


@pytest.mark.parametrize(
    ("template", "arguments", "tag"),
    [
        ("{a}", {"a": 42}, "42"),
        ("{a:04d}", {"a": 42}, "0042"),
        ("{a!r}", {"a": "x"}, "'x'"),
        ("{a}", {"a": None}, "None"),
        ("{a}", {"a": Kind.BIG}, "big"),
        ("{a}", {"a": Named.BIG}, "big"),
        ("{a}", {"a": Level.LOW}, "1"),
        ("{a}", {"a": Colour.RED}, "red"),
        ("{a.kind}", {"a": Box(Kind.BIG)}, "big"),
        ("{a[kind]}", {"a": {"kind": Kind.BIG}}, "big"),
        ("{a:{b}d}", {"a": 1, "b": 3}, "  1"),
        ("a{{b}}", {}, "a{b}"),
        ("{a}", {"a": "{b}"}, "{b}"),
    ],
)
def test_a_template_is_filled_in(template: str, arguments: dict[str, Any], tag: str) -> None:
    assert rendered((template,), arguments) == (tag,)


def test_tags_that_come_out_the_same_are_one() -> None:
    assert rendered(("x:{a}", "x:{b}", "y"), {"a": 1, "b": 1}) == ("x:1", "y")


# -- a visit ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "cuts"),
    [
        (["a", "head", "end"], [("a",), ("a",)]),
        (["a", "end"], [("a",)]),
        (["a", "b", "a", "head", "end"], [("a", "b"), ("a", "b")]),
        (["head", "a", "end"], [("a",), ("a",)]),
        (["a", "head", "b", "end"], [("a",), ("b",), ("a", "b")]),
        (["end", "a"], [("a",)]),
        (["head", "end"], []),
    ],
)
async def test_what_has_changed_is_invalidated_before_the_answer_leaves_and_at_the_end_of_the_request(
    steps: list[Any], cuts: list[tuple[str, ...]]
) -> None:
    log = Log()
    visit = Visit(log.engine)
    for step in steps:
        if step == "end":
            await visit.ended()
        elif step == "head":
            await visit.answered()
        elif visit.change([step]):
            await log.engine.invalidate([step])
    assert log.cuts == cuts


async def test_a_visit_of_another_cache_is_none_of_an_endpoints_business() -> None:
    log, other = Log(), Log()
    declared: Any = log.cache.invalidates("x")(asynchronous)
    token = current.set(Visit(other.engine))
    try:
        await declared(1)
    finally:
        current.reset(token)
    assert (log.cuts, other.cuts) == ([("x",)], [])


async def test_within_a_request_an_endpoint_leaves_it_to_the_visit() -> None:
    log = Log()
    visit = Visit(log.engine)
    declared: Any = log.cache.invalidates("x")(asynchronous)
    token = current.set(visit)
    try:
        await declared(1)
    finally:
        current.reset(token)
    assert log.cuts == []
    await visit.answered()
    assert log.cuts == [("x",)]


def test_declare_gives_the_endpoint_to_register_and_what_is_known_of_it() -> None:
    log = Log()
    stand_in, declaration = declare(asynchronous, engine=log.engine, invalidates=("x",))
    assert declaration_of(stand_in) is declaration
    assert (declaration.engine, declaration.policy, declaration.invalidates) == (log.engine, None, ("x",))
