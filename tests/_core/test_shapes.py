"""Digests of shapes: of what means the same one, in every process."""

import inspect
import os
import subprocess
import sys
import typing
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import pytest

from tiercel._core import shapes

T = TypeVar("T")


class Plain: ...


class Nested:
    class Inner: ...


SAME: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ({"required": ["a", "b"]}, {"required": ["b", "a"]}),
    ({"anyOf": [{"type": "null"}, {"type": "string"}]}, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
    ({"exclude": {"a", "b", "c"}}, {"exclude": frozenset({"c", "b", "a"})}),
    ({"examples": [Plain()]}, {"examples": [Plain()]}),
]
OTHER: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"a": 1}, {"a": 2}),
    ({"a": 1}, {"b": 1}),
    ({"a": 1}, {"a": "1"}),
    ({"a": 1}, {"a": True}),
    ({"a": None}, {}),
    ({"a": None}, {"a": "null"}),
    ({"a": []}, {"a": {}}),
    ({"a": ["b"]}, {"a": "b"}),
    ({"a": ["b", "c"]}, {"a": ["b,c"]}),
    ({"a": {"b": {"c": 1}}}, {"a": {"b": 1, "c": 1}}),
    ({"a": {1: {"b"}}}, {"a": {"1": {"b"}}}),
    (
        {"prefixItems": [{"type": "integer"}, {"type": "string"}]},
        {"prefixItems": [{"type": "string"}, {"type": "integer"}]},
    ),
    ({"a": Plain}, {"a": Nested}),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_means_the_same_has_one_digest(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert shapes.digest(one) == shapes.digest(other)


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_what_means_something_else_has_another_digest(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert shapes.digest(one) != shapes.digest(other)


@pytest.mark.parametrize(
    ("annotation", "name"),
    [
        (int, "builtins.int"),
        (Nested.Inner, f"{__name__}.Nested.Inner"),
        (list[Plain], f"builtins.list[{__name__}.Plain]"),
        (dict[str, list[Plain]], f"builtins.dict[builtins.str, builtins.list[{__name__}.Plain]]"),
        (Plain | None, f"types.UnionType[{__name__}.Plain, builtins.NoneType]"),
        (Annotated[Plain, object()], f"{__name__}.Plain[{__name__}.Plain]"),
        (Literal["a"], "typing.Literal[a]"),
        ("Later", "Later"),
        (typing.ForwardRef("Later"), "Later"),
        (T, "typing.TypeVar"),
        (Plain(), f"{__name__}.Plain"),
        (inspect.signature, "inspect.signature"),
    ],
)
def test_what_has_no_schema_is_named_without_an_address(annotation: Any, name: str) -> None:
    assert shapes.name_of(annotation) == name


def test_another_process_with_another_hash_seed_finds_the_same_digest() -> None:
    program = (
        "from tiercel._core import shapes\n"
        "print(shapes.digest({'exclude': {'a', 'b', 'c', 'd'}, 'of': {'e': frozenset('fghij')}, 'x': object()}).hex())"
    )
    paths = os.pathsep.join([str(Path(shapes.__file__).parents[2]), *sys.path])
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(said) == 1
    assert len(said.pop().strip()) == 32
