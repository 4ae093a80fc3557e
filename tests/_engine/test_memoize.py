"""What `memoize` can be put on, what it refuses, and how calls are told apart."""

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false, reportUntypedFunctionDecorator=false
import asyncio
import functools
import inspect
import math
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import dataclass
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Request
from pydantic import BaseModel

from tiercel import Cache, ConfigurationError
from tiercel._core.events import Answered, Discarded, Event, Failed
from tiercel.testing import VirtualClock


@pytest.fixture
def cache(clock: VirtualClock) -> Cache:
    return Cache(clock=clock, jitter=0.0, draw=lambda: 0.0)


class Seen:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)


def client(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://shop")


def refusal(decorate: Callable[[], object]) -> str:
    with pytest.raises(ConfigurationError) as refused:
        decorate()
    return str(refused.value)


# -- copies ----------------------------------------------------------------------------------------------------------


class Product(BaseModel):
    name: str
    tags: list[str]


@dataclass
class Point:
    x: int


async def test_what_a_caller_changes_never_reaches_another(cache: Cache) -> None:
    @cache.memoize(ttl=60)
    async def product() -> Product:
        return Product(name="lamp", tags=["brass"])

    @cache.memoize(ttl=60)
    def points() -> list[Point]:
        return [Point(1)]

    for _ in range(3):
        found, there = await product(), points()
        assert (found, there) == (Product(name="lamp", tags=["brass"]), [Point(1)])
        found.tags.append("changed")
        there[0].x = 7


async def test_none_is_a_value_like_any_other_and_found_once_for_each_call(cache: Cache) -> None:
    calls: list[str] = []

    @cache.memoize(ttl=60)
    async def find(name: str) -> str | None:
        calls.append(name)
        return None

    @cache.memoize(ttl=60)
    def find_now(name: str) -> None:
        calls.append(name)

    assert [await find("lamp") for _ in range(3)] == [None] * 3
    assert [find_now("chair") for _ in range(3)] == [None] * 3
    assert calls == ["lamp", "chair"]
    assert cache.stats().hits == 4


def test_every_spelling_of_a_call_is_one_call_and_every_type_another(cache: Cache) -> None:
    asked: list[object] = []

    @cache.memoize(ttl=60)
    def same(of: Any, more: int = 0) -> str:
        asked.append(of)
        return repr(of)

    assert same(1) == same(of=1) == same(1, 0) == same(more=0, of=1) == "1"
    assert [same(of) for of in (1.0, True, "1")] == ["1.0", "True", "'1'"]
    assert asked == [1, 1.0, True, "1"]


# -- where it stands -------------------------------------------------------------------------------------------------


def test_a_memoised_function_looks_like_itself(cache: Cache) -> None:
    def load(base: "str", *, of: "int" = 1) -> "float":
        """Load rates."""
        return 1.0

    async def fetch(base: str) -> float:
        return 1.0

    memoised = cache.memoize(ttl=60)(load)
    assert inspect.signature(memoised) == inspect.signature(load)
    assert (memoised.__name__, memoised.__doc__) == ("load", "Load rates.")
    assert not inspect.iscoroutinefunction(memoised)
    assert inspect.iscoroutinefunction(cache.memoize(ttl=60)(fetch))


async def test_dependencies_are_called_once_for_all_requests_with_the_same_arguments(cache: Cache) -> None:
    asked: list[str] = []
    app = FastAPI()

    @cache.memoize(ttl=60, tags="rates:{base}")
    async def load_rates(base: "str") -> "dict[str, float]":
        asked.append(base)
        await asyncio.sleep(1)
        return {"USD": 1.0}

    @cache.memoize(ttl=60)
    def load_names(base: "str") -> "list[str]":
        asked.append(f"names of {base}")
        return ["dollar"]

    @app.get("/rates/{base}")
    async def read(
        rates: Annotated[dict[str, float], Depends(load_rates)], names: Annotated[list[str], Depends(load_names)]
    ) -> dict[str, Any]:
        rates["seen"] = 1.0
        return {"rates": rates, "names": names}

    async with client(app) as http:
        answers = await asyncio.gather(*[http.get("/rates/EUR") for _ in range(5)])
        assert [answer.json()["rates"] for answer in answers] == [{"USD": 1.0, "seen": 1.0}] * 5
        assert sorted(asked) == ["EUR", "names of EUR"]
        await cache.invalidate("rates:EUR")
        await http.get("/rates/EUR")
        await http.get("/rates/CHF")
    assert sorted(asked) == ["CHF", "EUR", "EUR", "names of CHF", "names of EUR"]


def test_a_dependency_on_the_request_is_refused_where_it_is_written(cache: Cache) -> None:
    async def whoever(request: Request) -> str:
        return request.url.path

    assert "request: Request cannot be part of a key" in refusal(lambda: cache.memoize(ttl=60)(whoever))


class Keyed:
    def __init__(self, name: str) -> None:
        self.name = name
        self.calls = 0

    def __cache_key__(self) -> str:
        return self.name

    def called(self) -> None:
        self.calls += 1


async def test_methods_are_keyed_by_the_cache_key_of_their_instance(cache: Cache) -> None:
    class Shop(Keyed):
        @cache.memoize(ttl=60)
        def sizes(self, of: str) -> list[str]:
            self.called()
            return [self.name, of]

        @cache.memoize(ttl=60, tags="stock:{self.name}")
        async def stock(self, of: str) -> list[str]:
            self.called()
            return [self.name, of]

    class Market(Shop): ...

    one, same, other, market = Shop("a"), Shop("a"), Shop("b"), Market("a")
    for shop in (one, same, other, market):
        assert shop.sizes("lamp") == await shop.stock("lamp") == [shop.name, "lamp"]
    assert [one.calls, same.calls, other.calls, market.calls] == [2, 0, 2, 2]
    await cache.invalidate("stock:a")
    await same.stock("lamp")
    assert same.calls == 1


def test_a_method_of_instances_that_cannot_be_keyed_is_refused_when_its_class_is_made(cache: Cache) -> None:
    with pytest.raises((ConfigurationError, RuntimeError)) as refused:

        class Shop:  # pyright: ignore[reportUnusedClass]
            @cache.memoize(ttl=60)
            def sizes(self) -> int:
                return 1

    # Python 3.11 wraps what `__set_name__` raises.
    error = refused.value if isinstance(refused.value, ConfigurationError) else refused.value.__cause__
    assert isinstance(error, ConfigurationError)
    assert "Define `__cache_key__(self) -> str` on the class, or give key=" in str(error)


def test_with_a_key_of_its_own_a_method_goes_by_that(cache: Cache) -> None:
    calls: list[str] = []

    class Shop:
        @cache.memoize(ttl=60, key=lambda self, of: of)
        def sizes(self, of: str) -> str:
            calls.append(of)
            return of

    assert Shop().sizes("lamp") == Shop().sizes("lamp") == "lamp"
    assert calls == ["lamp"]


async def test_methods_of_a_class_may_be_memoised_above_or_below(cache: Cache) -> None:
    calls: list[str] = []

    class Shop:
        @classmethod
        @cache.memoize(ttl=60)
        def one(cls, of: int) -> str:
            calls.append("one")
            return f"{cls.__name__} {of}"

        @cache.memoize(ttl=60)
        @classmethod
        async def two(cls, of: int) -> str:
            calls.append("two")
            return f"{cls.__name__} {of}"

        @staticmethod
        @cache.memoize(ttl=60)
        async def three(of: int) -> int:
            calls.append("three")
            return of

        @cache.memoize(ttl=60)
        @staticmethod
        def four(of: int) -> int:
            calls.append("four")
            return of

    class Market(Shop): ...

    for _ in range(2):
        assert [Shop.one(1), Market.one(1), await Shop.two(1), await Market().two(1)] == ["Shop 1", "Market 1"] * 2
        assert [await Shop.three(3), await Shop().three(3), Shop.four(4), Shop().four(4)] == [3, 3, 4, 4]
    assert calls == ["one", "one", "two", "two", "three", "four"]


async def test_a_memoised_method_goes_under_other_decorators(cache: Cache) -> None:
    calls: list[str] = []

    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        assert inspect.iscoroutinefunction(function)
        assert inspect.signature(function).parameters.keys() == {"self", "of"}

        @functools.wraps(function)
        async def logging(*args: Any) -> Any:
            calls.append("logged")
            return await function(*args)

        return logging

    class Shop(Keyed):
        @property
        @cache.memoize(ttl=60)
        def size(self) -> int:
            calls.append("size")
            return 1

        @logged
        @cache.memoize(ttl=60)
        async def stock(self, of: str) -> int:
            calls.append(of)
            return 1

    class Table(Keyed):
        free = cache.memoize(ttl=60)(Shop.stock)

    shop = Shop("a")
    assert [shop.size, shop.size, await shop.stock("lamp"), await shop.stock("lamp")] == [1] * 4
    assert calls == ["size", "logged", "lamp", "logged"]
    assert await Table("a").free("lamp") == 1


def test_a_memoised_method_can_be_called_while_its_class_is_being_made(cache: Cache) -> None:
    class Shop(Keyed):
        @cache.memoize(ttl=60)
        def size(self) -> int:
            return 1

        first = size(Keyed("a"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        bound = size.__get__(Keyed("a"))()

    assert [Shop.first, Shop.bound] == [1, 1]


@pytest.mark.parametrize("memoised_last", [False, True])
async def test_the_order_of_memoize_and_response_does_not_matter(cache: Cache, *, memoised_last: bool) -> None:
    app, calls = FastAPI(), list[str]()
    cache.install(app)
    remember, respond = cache.memoize(ttl=600, tags="rates"), cache.response(ttl=60, tags="page:{base}")

    async def read(base: str) -> list[str]:
        calls.append(base)
        return [base]

    app.get("/rates/{base}")(remember(respond(read)) if memoised_last else respond(remember(read)))
    async with client(app) as http:

        async def status() -> str:
            answer = await http.get("/rates/EUR")
            assert answer.json() == ["EUR"]
            return answer.headers["cache-status"].partition("; ttl")[0]

        assert [await status(), await status()] == ["tiercel; fwd=uri-miss; stored", "tiercel; hit"]
        await cache.invalidate("page:EUR")
        assert [await status(), await status()] == ["tiercel; fwd=uri-miss; stored", "tiercel; hit"]
        assert calls == ["EUR"]
        # The tags of the function are those of its values: the page has its own.
        await cache.invalidate("rates", "page:EUR")
        assert await status() == "tiercel; fwd=uri-miss; stored"
    assert calls == ["EUR"] * 2


def test_memoize_above_response_and_something_between_them_is_refused(cache: Cache) -> None:
    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        return functools.wraps(function)(functools.partial(function))

    async def read() -> int:
        return 1

    declared = logged(cache.response(ttl=60)(read))
    assert "Put @cache.memoize below @cache.response" in refusal(lambda: cache.memoize(ttl=60)(declared))
    twice = cache.invalidates("a")(declared)
    assert "Put @cache.memoize below @cache.response" in refusal(lambda: cache.memoize(ttl=60)(twice))


# -- what cannot be told apart ---------------------------------------------------------------------------------------


async def stream() -> AsyncGenerator[int]:
    yield 1


def session() -> Generator[int]:
    yield 1


@pytest.mark.parametrize("function", [stream, session, functools.partial(session)])
def test_what_yields_is_refused(cache: Cache, function: Any) -> None:
    assert "memoize" in refusal(lambda: cache.memoize(ttl=60)(function))


@pytest.mark.parametrize(
    "function",
    [
        functools.partial(math.pow, 2),
        functools.update_wrapper(functools.partial(client), client),
        Keyed("a").__cache_key__,
        math.sqrt,
        Keyed,
        Keyed("a"),
        7,
    ],
)
def test_what_is_not_made_by_def_is_refused_with_a_way_out(cache: Cache, function: Any) -> None:
    """Partials and bound methods carry arguments that are in no key; nothing tells the others' names or types."""
    assert "Put it on a function made by `def`" in refusal(lambda: cache.memoize(ttl=60)(function))


def test_closures_of_one_function_do_not_share_values(cache: Cache) -> None:
    def adding(more: int) -> Callable[[int], int]:
        @cache.memoize(ttl=60)
        def add(number: int) -> int:
            return number + more

        return add

    assert [adding(1)(5), adding(100)(5)] == [6, 105]


def loaded(number: int) -> int:
    return number


def wrapped(more: int) -> Callable[[int], int]:
    @functools.wraps(loaded)
    def adding(number: int) -> int:
        return number + more

    return adding


def test_different_functions_by_one_name_do_not_share_values(cache: Cache) -> None:
    remember = cache.memoize(ttl=60)
    functions = [remember(loaded), remember(wrapped(10)), remember(wrapped(20))]
    assert [function(1) for function in functions] == [1, 11, 21]


def test_a_function_that_is_memoised_again_finds_the_values_it_has(cache: Cache) -> None:
    for _ in range(3):
        assert cache.memoize(ttl=60)(loaded)(1) == 1
    assert (cache.stats().hits, cache.stats().fills) == (2, 1)


# -- policy ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ({}, "@cache.memoize needs a lifetime. Give one: @cache.memoize(ttl=60)."),
        ({"ttl": None}, "@cache.memoize needs a lifetime"),
        ({"ttl": "soon"}, "Policy.ttl cannot be 'soon'"),
        ({"ttl": 60, "tag": "a"}, "@cache.memoize(tag=...) is unknown. It takes ttl, stale_while_revalidate"),
        ({"ttl": 60, "browser_ttl": 5}, "@cache.memoize(browser_ttl=...) means nothing: a function has no clients"),
        ({"ttl": 60, "cdn_ttl": 5}, "@cache.memoize(cdn_ttl=...) means nothing"),
        ({"ttl": 60, "per": "shared"}, "@cache.memoize(per=...) means nothing"),
        ({"ttl": 60, "vary": "accept"}, "@cache.memoize(vary=...) means nothing"),
        ({"ttl": 60, "tags": "rates:{bsae}"}, "names 'bsae', which is none of its arguments (base)"),
        ({"ttl": 60, "tags": "rates:{base"}, "cannot be read"),
    ],
)
def test_mistakes_are_told_where_the_function_is_written(cache: Cache, policy: dict[str, Any], says: str) -> None:
    def load(base: str) -> float:
        return 1.0

    assert says in refusal(lambda: cache.memoize(**policy)(load))


def test_a_return_type_that_belongs_to_a_session_is_refused_where_the_function_is_written(cache: Cache) -> None:
    class Row:
        __mapper__ = None

    def load() -> list[Row]:
        return []

    assert "it belongs to a database session" in refusal(lambda: cache.memoize(ttl=60)(load))


async def test_tags_may_follow_from_arguments_and_value(cache: Cache) -> None:
    calls = 0

    @cache.memoize(ttl=60, tags=lambda arguments, bundle: [f"of:{arguments['name']}", *bundle])
    async def bundle(name: str = "set") -> list[str]:
        nonlocal calls
        calls += 1
        return ["lamp", "chair"]

    for tag, again in [("table", 1), ("lamp", 2), ("chair", 3), ("of:set", 4), ("of:lamp", 4)]:
        await bundle()
        await cache.invalidate(tag)
        await bundle()
        assert calls == again, tag


async def test_one_tag_from_a_callable_is_one_tag(cache: Cache) -> None:
    calls = 0

    @cache.memoize(ttl=60, tags=lambda arguments, value: f"number:{value}")
    async def number() -> int:
        nonlocal calls
        calls += 1
        return 1

    await number()
    await cache.invalidate("n")
    await number()
    assert calls == 1
    await cache.invalidate("number:1")
    await number()
    assert calls == 2


@pytest.mark.parametrize(
    ("tags", "error"),
    [
        (lambda _, __: [7], "ConfigurationError"),
        (lambda _, __: [None], "ConfigurationError"),
        (lambda _, __: 7 / 0, "ZeroDivisionError"),
        ("of:{user.name}", "AttributeError"),
    ],
)
async def test_a_value_whose_tags_cannot_be_told_is_handed_on_and_not_stored(tags: Any, error: str) -> None:
    """Nobody could invalidate it."""
    seen, made = Seen(), list[int]()
    cache = Cache(observers=[seen])

    @cache.memoize(ttl=60, tags=tags)
    async def numbers(user: None = None) -> list[int]:
        made.append(1)
        await asyncio.sleep(1)
        return [1]

    assert await asyncio.gather(numbers(), numbers()) == [[1], [1]]  # type: ignore[comparison-overlap]
    assert await numbers() == [1]
    assert len(made) == 2
    assert [type(one.error).__name__ for one in seen.events if isinstance(one, Failed)] == [error] * 2
    assert [one.reason for one in seen.events if isinstance(one, Discarded)] == ["tags-unknown"] * 2
    assert cache.stats().failed == 0


async def test_observers_know_a_function_by_its_name_and_not_by_its_arguments() -> None:
    seen = Seen()
    remembered = Cache(observers=[seen]).memoize(ttl=60)(loaded)
    for number in range(3):
        remembered(number)
    assert {event.key for event in seen.events if isinstance(event, Answered)} == {"loaded"}
