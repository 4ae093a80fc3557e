"""What a program may import, pinned; and that each of it says what it is, with an example that runs."""

import doctest
import inspect
import re
import subprocess
import sys
from typing import Any, Protocol

import pytest

import tiercel
import tiercel.fastapi
import tiercel.testing
from tiercel._engine.explain import Explanation
from tiercel._engine.reports import Ack, Stats

# `Cache.dashboard` comes with the dashboard.
PUBLIC = [
    "Cache",
    "CacheMiddleware",
    "CacheStatus",
    "Clock",
    "ConfigurationError",
    "NotAcknowledged",
    "Observer",
    "Policy",
    "Store",
    "StoreError",
    "TiercelError",
]
METHODS = [
    "aclose",
    "clear",
    "delete",
    "explain",
    "from_env",
    "get",
    "get_or_set",
    "install",
    "invalidate",
    "invalidates",
    "memoize",
    "mutation",
    "open",
    "response",
    "set",
    "stats",
    "write_through",
]
SUBMODULES = {
    tiercel.fastapi: ["CacheDep", "install"],
    tiercel.testing: [
        "RecordingLog",
        "SimulatedServer",
        "SimulatedStore",
        "StoreContract",
        "StuckError",
        "VirtualClock",
        "VirtualLoop",
        "run_virtual",
    ],
}
CLASSES: list[type] = [getattr(tiercel, name) for name in PUBLIC] + [Ack, Explanation, Stats]
SECTIONS = ("Args", "Returns", "Yields", "Raises", "Source", "Example")


def test_the_public_names_are_these() -> None:
    assert sorted(tiercel.__all__) == PUBLIC
    visible = {
        name for name, value in vars(tiercel).items() if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert visible == set(PUBLIC)
    for module, names in SUBMODULES.items():
        assert sorted(module.__all__) == names


def test_the_methods_of_a_cache_are_these() -> None:
    assert sorted(name for name, value in vars(tiercel.Cache).items() if _is_public(name, value)) == METHODS


def test_the_fields_of_a_policy_are_nine() -> None:
    fields = ["ttl", "stale_while_revalidate", "stale_if_error", "browser_ttl", "cdn_ttl", "tags", "per", "vary", "key"]
    assert list(inspect.signature(tiercel.Policy).parameters) == fields


def _is_public(name: str, value: object) -> bool:
    return not name.startswith("_") and (inspect.isroutine(value) or isinstance(value, property | classmethod))


def documented() -> list[Any]:
    """Each public class and each of its public methods and properties."""
    found: list[tuple[str, object]] = [(public.__name__, public) for public in CLASSES]
    for public in CLASSES:
        members = [name for name, value in vars(public).items() if _is_public(name, value)]
        found += [(f"{public.__name__}.{name}", getattr(public, name)) for name in members]
    return [pytest.param(one, id=name) for name, one in found]


@pytest.mark.parametrize("public", documented())
def test_each_begins_with_a_sentence_and_ends_with_an_example(public: Any) -> None:
    text = inspect.getdoc(public) or ""
    sections = re.findall(r"^(\w+):$", text, re.MULTILINE)
    assert re.match(r"[A-Z`][^\n]*[.:]", text)
    assert sections == [section for section in SECTIONS if section in sections]
    assert sections[-1:] == ["Example"]


@pytest.mark.parametrize("public", documented())
def test_each_says_what_its_arguments_mean(public: Any) -> None:
    if isinstance(public, property) or (inspect.isclass(public) and issubclass(public, Exception | Protocol)):
        return
    text = inspect.getdoc(public) or ""
    said = re.findall(r"^    (\w+): \S", text.partition("\nArgs:\n")[2].partition("\n\n")[0], re.MULTILINE)
    taken = [name for name in inspect.signature(public).parameters if name != "self"]
    assert said == taken or (taken == ["key"] and " a key" in text)


@pytest.mark.parametrize("public", documented())
def test_each_example_runs(public: Any) -> None:
    written: Any = public.fget if isinstance(public, property) else public
    known = dict(vars(sys.modules[inspect.unwrap(written).__module__]))
    example = doctest.DocTestParser().get_doctest(inspect.getdoc(public) or "", known, "example", None, None)
    said: list[str] = []
    failed, tried = doctest.DocTestRunner().run(example, out=said.append)
    assert tried
    assert not failed, "".join(said)


LEAST = """
import sys
for name in ("anyio", "fastapi", "starlette", "typer", "uvicorn", "lmdb", "redis"):
    sys.modules[name] = None
import asyncio
from tiercel import Cache
cache = Cache()

@cache.memoize(ttl=60)
def double(number: int) -> int:
    return 2 * number

assert double(2) == double(2) == 4
asyncio.run(cache.invalidate("numbers"))
"""


def test_the_least_installation_is_of_use() -> None:
    """What `pip install ./tiercel` brings."""
    subprocess.run([sys.executable, "-c", LEAST], check=True)


def test_without_its_extra_the_command_says_what_to_install() -> None:
    without = "import sys; sys.modules['typer'] = None; import tiercel.__main__"
    said = subprocess.run([sys.executable, "-c", without], check=False, capture_output=True, text=True)
    assert said.returncode == 1
    assert said.stderr == (
        "The command tiercel needs the package typer. Install the extra: pip install 'tiercel[server]'.\n"
    )
