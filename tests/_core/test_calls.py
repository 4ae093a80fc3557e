"""Memoised calls: what answers them, and their keys."""

# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false
import functools
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercel._core.calls import ArgumentKey, Hit, HitRefresh, Miss, Stale, UseStale, Value, on_call, on_call_failure
from tiercel.errors import ConfigurationError


def value(**changes: Any) -> Value:
    given: dict[str, Any] = {"payload": 1, "born": 0, "made_at": 0.0, "fresh_until": 100.0, **changes}
    return Value(**given)


WINDOWS = value(stale_while_revalidate=10.0, stale_if_error=60.0)


@pytest.mark.parametrize(
    ("stored", "now", "soft", "answer"),
    [
        (None, 0.0, False, Miss()),
        (WINDOWS, 99.9, False, Hit(WINDOWS)),
        (WINDOWS, 100.0, False, Stale(WINDOWS)),
        (WINDOWS, 109.9, False, Stale(WINDOWS)),
        (WINDOWS, 110.0, False, Miss()),
        (value(), 100.0, False, Miss()),
        (WINDOWS, 50.0, True, Stale(WINDOWS)),
        (value(), 50.0, True, Stale(value())),
        (WINDOWS, 105.0, True, Stale(WINDOWS)),
        (WINDOWS, 110.0, True, Miss()),
    ],
)
def test_a_stored_value_answers_by_age_and_window(stored: Value | None, now: float, *, soft: bool, answer: Any) -> None:
    decision = on_call(stored, now, soft=soft)
    assert decision == answer
    assert type(decision) is type(answer)


@pytest.mark.parametrize(
    ("now", "cost", "draw", "refresh"),
    [
        (99.0, 1.0, 1.0, False),
        (99.0, 1.0, 0.5, False),
        (99.0, 1.0, math.exp(-1.1), True),
        (98.0, 1.0, math.exp(-1.1), False),
        (98.0, 2.0, math.exp(-1.1), True),
        (99.9, 0.0, 1e-300, False),
    ],
)
def test_a_hit_is_renewed_early_by_the_odds_of_xfetch(now: float, cost: float, draw: float, *, refresh: bool) -> None:
    stored = value(cost=cost)
    expected: Any = HitRefresh(stored) if refresh else Hit(stored)
    decision = on_call(stored, now, draw=draw)
    assert decision == expected
    assert type(decision) is type(expected)


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(2.0**-53, 1.0))
def test_no_draw_renews_before_a_hit_is_no_longer_certain(now: float, cost: float, draw: float) -> None:
    stored = value(fresh_until=1e6, cost=cost)
    if now < stored.certain_until:
        assert type(on_call(stored, now, draw=draw)) is Hit


@pytest.mark.parametrize(
    ("stored", "now", "usable"),
    [
        (None, 0.0, False),
        (WINDOWS, 50.0, True),
        (WINDOWS, 159.9, True),
        (WINDOWS, 160.0, False),
        (value(), 50.0, False),
    ],
)
def test_a_failing_function_is_covered_for_within_stale_if_error(
    stored: Value | None, now: float, *, usable: bool
) -> None:
    assert on_call_failure(stored, now) == (UseStale(stored) if usable and stored else None)


@given(now=st.floats(0, 1e6), swr=st.floats(0, 1e6), sie=st.floats(0, 1e6), soft=st.booleans())
def test_retention_covers_every_moment_at_which_a_value_is_usable(
    now: float, swr: float, sie: float, *, soft: bool
) -> None:
    stored = value(stale_while_revalidate=swr, stale_if_error=sie)
    if now >= stored.retain_until:
        assert on_call(stored, now, soft=soft) == Miss()
        assert on_call_failure(stored, now) is None


# ------------------------------------------------------------------------------------------------------------ keys


class Session:
    """What nobody can key."""


def no_parts(_: type) -> None:
    return None


def key_of(
    function: Callable[..., object], *, namespace: str = "shop", salt: bytes = b"salt", **more: Any
) -> ArgumentKey:
    return ArgumentKey(function, namespace=namespace, parts=no_parts, salt=salt, **more)


def anything(x: Any) -> object:
    return x


def many(*args: Any, **kwargs: Any) -> object:
    return args, kwargs


KEY = key_of(anything)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.decimals(), st.dates()
)


def exactly(one: object) -> object:
    """A rendering in which only what is the same is equal."""
    return type(one), repr(one)


@given(st.lists(scalars, max_size=4), st.lists(scalars, max_size=4))
def test_calls_share_a_key_exactly_where_their_arguments_are_the_same(one: list[object], other: list[object]) -> None:
    same = [*map(exactly, one)] == [*map(exactly, other)]
    make = key_of(many)
    for _ in range(2):
        assert (make(tuple(one), {}) == make(tuple(other), {})) == same


@given(scalars, scalars)
def test_what_is_remembered_of_a_call_is_never_taken_for_another(one: object, other: object) -> None:
    make = key_of(anything)
    for _ in range(2):
        assert make((one,), {}) == KEY((one,), {})
        assert (make((one,), {}) == make((other,), {})) == (exactly(one) == exactly(other))


@pytest.mark.parametrize("equal", [(1, 1.0, True), (0, 0.0, -0.0, False), ("a", b"a")])
def test_arguments_that_are_equal_but_not_the_same_never_share_a_key(equal: tuple[Any, ...]) -> None:
    keys = {KEY((one,), {}) for one in equal * 2}
    assert len(keys) == len(equal)
    assert {len(key) for key in keys} == {16}


# -------------------------------------------------------------------------------------------------------- spellings


def priced(product: int, currency: str = "EUR", *, at: int = 1) -> object:
    return product, currency, at


def positional_only(x: int, /, y: int = 2) -> object:
    return x, y


SPELLINGS: list[tuple[Callable[..., object], list[tuple[tuple[Any, ...], dict[str, Any]]]]] = [
    (anything, [((1,), {}), ((), {"x": 1})]),
    (
        priced,
        [
            ((1,), {}),
            ((1, "EUR"), {}),
            ((1,), {"currency": "EUR"}),
            ((1,), {"at": 1, "currency": "EUR"}),
            ((), {"at": 1, "currency": "EUR", "product": 1}),
            ((), {"product": 1}),
        ],
    ),
    (positional_only, [((1,), {}), ((1, 2), {}), ((1,), {"y": 2})]),
    (many, [((1,), {"a": 1, "b": 2}), ((1,), {"b": 2, "a": 1})]),
]


@pytest.mark.parametrize(("function", "spellings"), SPELLINGS)
def test_all_spellings_of_a_call_share_a_key(function: Callable[..., object], spellings: list[Any]) -> None:
    make = key_of(function)
    assert len({make(*spelling) for spelling in spellings * 2}) == 1
    assert len({str(make.arguments(*spelling)) for spelling in spellings[:-1]}) == 1


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), ((1, "EUR", 3), {}), ((1,), {"product": 1}), ((1,), {"nothing": 1}), ((), {"currency": "EUR"})],
)
def test_arguments_that_do_not_fit_are_the_type_error_of_the_call(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    with pytest.raises(TypeError):
        priced(*args, **kwargs)
    with pytest.raises(TypeError):
        key_of(priced)(args, kwargs)


def test_a_mutable_default_is_read_at_every_call() -> None:
    shared: list[int] = []

    def listing(x: list[int] = shared) -> object:
        return x

    make = key_of(listing)
    before = make((), {})
    shared.append(1)
    assert make((), {}) != before
    assert make((), {}) == make(([1],), {})


def test_keys_differ_by_namespace_function_and_parameter_names() -> None:
    def renamed() -> Callable[..., object]:
        def other(y: Any) -> object:
            return y

        other.__qualname__, other.__module__ = anything.__qualname__, anything.__module__
        return other

    makers = [KEY, key_of(anything, namespace="other"), key_of(many), key_of(renamed())]
    assert len({make((1,), {}) for make in makers}) == len(makers)


def test_a_function_of_a_stable_name_is_keyed_alike_in_every_process() -> None:
    assert key_of(anything, salt=b"a")((1,), {}) == key_of(anything, salt=b"b")((1,), {})
    assert not KEY.local


def test_closures_and_lambdas_of_one_name_never_share_a_key() -> None:
    def adder(n: int) -> Callable[[int], int]:
        def add(x: int) -> int:
            return x + n

        return add

    one, two = key_of(adder(1), salt=b"a"), key_of(adder(2), salt=b"b")
    assert one.local
    assert one((1,), {}) != two((1,), {})
    assert key_of(lambda: 1, salt=b"a")((), {}) != key_of(lambda: 2, salt=b"b")((), {})


def test_forgetting_known_calls_changes_no_key() -> None:
    make = key_of(anything)
    first = [make((n,), {}) for n in range(5_000)]
    assert [make((n,), {}) for n in range(5_000)] == first
    assert len(set(first)) == len(first)


# ------------------------------------------------------------------------------------------------- what cannot be keyed


def test_a_parameter_that_cannot_be_keyed_is_an_error_at_decoration_with_the_way_out() -> None:
    def load(session: Session, base: str) -> object:
        return session, base

    says = r"load\(\): session: Session cannot be part of a key.*key=lambda session, base: \(base\)"
    with pytest.raises(ConfigurationError, match=says):
        key_of(load)
    key_of(load, key=lambda session, base: base)


def test_an_annotation_in_quotes_is_read_too() -> None:
    def load(session: "Session") -> object:
        return session

    with pytest.raises(ConfigurationError, match="session: Session"):
        key_of(load)


def test_an_annotation_that_names_nothing_is_left_to_the_values() -> None:
    def load(x: Any) -> object:
        return x

    load.__annotations__["x"] = "Nowhere"
    assert key_of(load)((1,), {}) == key_of(load)((), {"x": 1})


def nested(depth: int) -> list[Any]:
    one: list[Any] = []
    for _ in range(depth):
        one = [one]
    return one


def cyclic() -> list[Any]:
    one: list[Any] = []
    one.append(one)
    return one


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ((1, Session()), "y: Session"),
        ((Session(), 1), "x: Session"),
        ((1, [Session()]), "y: Session"),
        ((1, nested(10_000)), "y: something nested too deeply"),
        ((cyclic(), 1), "x: something nested too deeply"),
    ],
    ids=["second", "first", "inside", "deep", "cyclic"],
)
def test_a_value_that_cannot_be_keyed_is_an_error_that_says_what_to_do(args: tuple[Any, ...], says: str) -> None:
    def load(x: Any, y: Any) -> object:
        return x, y

    make = key_of(load)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=rf"load\(\): {says} cannot .*key=lambda x, y"):
            make(args, {})


def test_what_has_no_name_of_its_own_is_refused() -> None:
    for nameless in (functools.partial(anything, 1), classmethod(anything)):
        with pytest.raises(ConfigurationError, match="cannot name"):
            key_of(nameless)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# ------------------------------------------------------------------------------------------------------------- methods


class Repository:
    def __init__(self, name: str = "main") -> None:
        self.name = name

    def load(self, x: int) -> object:
        return self.name, x

    @classmethod
    def build(cls, x: int) -> object:
        return cls, x

    @staticmethod
    def plain(x: int) -> object:
        return x


class Archive(Repository):
    def __cache_key__(self) -> str:
        return self.name


def test_a_method_asks_its_class_for_a_cache_key() -> None:
    make = key_of(Repository.load)
    assert make.bound_to_instance
    make.check_owner(Archive)
    with pytest.raises(ConfigurationError, match=r"self: Repository .*Define `__cache_key__"):
        make.check_owner(Repository)
    with pytest.raises(ConfigurationError, match=r"self: Repository .*Define `__cache_key__"):
        make((Repository(), 1), {})
    assert make((Archive("a"), 1), {}) == make((Archive("a"), 1), {})
    assert make((Archive("a"), 1), {}) != make((Archive("b"), 1), {})


def test_a_class_method_is_keyed_by_the_class_that_it_is_called_on() -> None:
    make = key_of(Repository.build.__func__)  # type: ignore[attr-defined]
    assert not make.bound_to_instance
    assert make((Repository, 1), {}) != make((Archive, 1), {})
    assert make((Archive, 1), {}) == make((Archive,), {"x": 1})


def test_a_static_method_is_a_function() -> None:
    assert key_of(Repository.plain)((1,), {}) == key_of(Repository.plain)((), {"x": 1})


def test_a_key_callable_stands_for_the_arguments() -> None:
    def load(session: Session, base: str = "EUR") -> object:
        return session, base

    make = key_of(load, key=lambda session, base: base)
    keys = {make((Session(),), {}), make((Session(), "EUR"), {}), make((), {"session": Session()})}
    assert len(keys) == 1
    assert make((Session(), "USD"), {}) not in keys
    method = key_of(Repository.load, key=lambda self, x: (self.name, x))
    method.check_owner(Repository)
    assert method((Repository("a"), 1), {}) == method((Repository("a"),), {"x": 1})
    assert method((Repository("a"), 1), {}) != method((Repository("b"), 1), {})


def test_what_a_key_callable_returns_must_be_keyable() -> None:
    make = key_of(anything, key=lambda x: x)
    with pytest.raises(ConfigurationError, match=r"key=: Session cannot .* Return a string"):
        make((Session(),), {})
