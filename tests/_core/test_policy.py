"""What may be declared, and what is refused with what to do about it."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercel._core.policy import Policy, Rules, seconds
from tiercel.errors import ConfigurationError


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (90, 90.0),
        (0, 0.0),
        (0.5, 0.5),
        (timedelta(minutes=2), 120.0),
        ("90s", 90.0),
        ("5m", 300.0),
        ("2h", 7_200.0),
        ("1d", 86_400.0),
        ("1.5h", 5_400.0),
    ],
)
def test_a_duration_is_seconds(value: float | str | timedelta, found: float) -> None:
    result = seconds(value)
    assert result == found
    assert isinstance(result, float)


@pytest.mark.parametrize(
    "value",
    [
        -1,
        -0.1,
        float("nan"),
        float("inf"),
        10**400,
        timedelta(seconds=-1),
        "",
        "90",
        "5 m",
        "5M",
        "5min",
        "-5s",
        "1m30s",
        " 5s",
        "5s\n",
        "\u0665s",
        "9" * 400 + "d",
        True,
        None,
        b"5s",
        [5],
    ],
    ids=lambda value: repr(value)[:12],
)
def test_anything_else_is_no_duration(value: float | str | timedelta) -> None:
    with pytest.raises(ConfigurationError, match="Give seconds, not negative"):
        seconds(value)


@given(st.text() | st.integers() | st.floats() | st.timedeltas() | st.none() | st.binary())
def test_a_duration_is_a_finite_number_of_seconds_or_refused(value: float | str | timedelta) -> None:
    try:
        found = seconds(value)
    except ConfigurationError:
        return
    assert 0.0 <= found < float("inf")


def test_a_policy_has_nine_fields_and_these_defaults() -> None:
    defaults = {field.name: getattr(Policy(), field.name) for field in fields(Policy)}
    assert defaults == {
        "ttl": None,
        "stale_while_revalidate": 0.0,
        "stale_if_error": 0.0,
        "browser_ttl": 0.0,
        "cdn_ttl": None,
        "tags": (),
        "per": "auto",
        "vary": (),
        "key": None,
    }


@pytest.mark.parametrize("name", ["ttl", "stale_while_revalidate", "stale_if_error", "browser_ttl", "cdn_ttl"])
def test_every_duration_of_a_policy_is_kept_as_seconds(name: str) -> None:
    assert getattr(Policy(**{name: "5m"}), name) == 300.0  # type: ignore[arg-type]


def test_one_tag_is_a_tuple_of_one() -> None:
    assert Policy(tags="product:{product_id}").tags == ("product:{product_id}",)


def test_tags_keep_their_order_and_lose_their_repeats() -> None:
    assert Policy(tags=["b", "a", "b"]).tags == ("b", "a")


def test_tags_may_be_a_callable() -> None:
    def tags(arguments: dict[str, str], _value: object) -> list[str]:
        return [arguments["id"]]

    assert Policy(tags=tags).tags is tags


def test_selecting_fields_are_lower_case() -> None:
    assert Policy(vary="Accept-Language").vary == ("accept-language",)
    assert Policy(vary=("X-Tenant", "x-tenant", "Accept")).vary == ("x-tenant", "accept")


@pytest.mark.parametrize("per", ["auto", "shared", "user", "user.id", "auth.user.tenant_id", str])
def test_whose_response_it_is(per: str | Callable[[object], str]) -> None:
    assert Policy(per=per).per == per


def test_further_key_parts_come_from_a_callable() -> None:
    assert Policy(key=str).key is str


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ttl", "soon"),
        ("ttl", -1),
        ("stale_while_revalidate", None),
        ("stale_if_error", "x"),
        ("browser_ttl", float("nan")),
        ("cdn_ttl", True),
        ("tags", ""),
        ("tags", None),
        ("tags", ("a", 1)),
        ("tags", ("a", "")),
        ("tags", [["a"]]),
        ("tags", b"a"),
        ("per", ""),
        ("per", "user."),
        ("per", "user id"),
        ("per", "user.1"),
        ("per", None),
        ("vary", "*"),
        ("vary", ("accept", "*")),
        ("vary", "accept, accept-language"),
        ("vary", "é"),
        ("vary", 1),
        ("key", "user"),
    ],
)
def test_a_mistake_names_the_field_the_value_and_what_to_give(field: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=rf"Policy\.{field} cannot .*\. Give "):
        Policy(**{field: value})  # type: ignore[arg-type]


def test_a_policy_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Policy().ttl = 1.0  # type: ignore[misc]


def test_a_changed_copy_is_checked_too() -> None:
    assert replace(Policy(ttl=60, tags="a"), cdn_ttl=3600) == Policy(ttl=60, tags="a", cdn_ttl=3600)
    with pytest.raises(ConfigurationError):
        replace(Policy(), ttl=-1)


def test_rules_obey_nothing_and_guess_nothing_by_default() -> None:
    assert Rules() == Rules(obey_requests=False, heuristic=False, targets=())


def test_targets_are_lower_case_in_their_order() -> None:
    rules = Rules(targets=("Example-Cache-Control", "CDN-Cache-Control"))
    assert rules.targets == ("example-cache-control", "cdn-cache-control")


def test_a_target_is_the_name_of_a_field() -> None:
    with pytest.raises(ConfigurationError, match="targets cannot have 'cdn cache'"):
        Rules(targets=("cdn cache",))
