"""What README.md and docs/ show in Python runs, and the site loads nothing from elsewhere.

The blocks of a file share one namespace and run in order; `await` at the top level runs in virtual time.
A block after `<!-- no-run -->` only has to compile.
"""

import ast
import asyncio
import re
import runpy
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from inspect import iscoroutine
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

import pytest

from tiercel.testing import VirtualLoop

ROOT = Path(__file__).parent.parent
PAGES = sorted(path for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")] if path.exists())
CHECK_SITE = runpy.run_path(str(ROOT / "scripts" / "check_site.py"))
BLOCK = re.compile(
    r"(?P<quiet><!-- no-run -->\s*)?^(?P<indent>[ \t]*)```python(?![\w-])[^\n]*\n(?P<code>.*?)^(?P=indent)```[ \t]*$",
    re.MULTILINE | re.DOTALL,
)


def blocks(text: str, name: str) -> Iterator[tuple[CodeType, bool]]:
    """Compile each block such that a traceback shows the line of the page."""
    for found in BLOCK.finditer(text):
        above = "\n" * text.count("\n", 0, found.start("code"))
        code = compile(
            above + textwrap.dedent(found["code"]), name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
        )
        yield code, found["quiet"] is None


def run(text: str, name: str) -> ModuleType:
    """Run a page as a module; Pydantic and dataclasses look their names up in `sys.modules`."""
    module = sys.modules["page"] = ModuleType("page")
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        for code, wanted in blocks(text, name):
            result = FunctionType(code, module.__dict__)() if wanted else None
            if iscoroutine(result):
                runner.run(result)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_python_block_of_the_documentation_runs(page: Path) -> None:
    run(page.read_text(), str(page))


def test_blocks_share_a_namespace_and_may_await_in_virtual_time() -> None:
    page = """
```python
import asyncio
total = 40
```
- in a list:

    ```python title="second"
    await asyncio.sleep(3600)
    total += 2
    ```
"""
    assert run(page, "page.md").total == 42


def test_a_block_marked_no_run_is_only_compiled() -> None:
    run("<!-- no-run -->\n```python\nraise AssertionError\n```\n", "page.md")


def test_a_block_marked_no_run_must_compile() -> None:
    with pytest.raises(SyntaxError):
        run("<!-- no-run -->\n\n```python\none +\n```\n", "page.md")


def test_a_failing_block_names_the_line_of_the_page() -> None:
    with pytest.raises(ZeroDivisionError) as failure:
        run("# A page\n\n```python\none = 1\none / 0\n```\n", "page.md")
    assert [(str(entry.path), entry.lineno + 1) for entry in failure.traceback][-1][1] == 5


def test_other_blocks_are_left_alone() -> None:
    assert list(blocks("```console\n$ rm -rf /\n```\n```pythonic\n1 +\n```\n", "page.md")) == []


@pytest.mark.parametrize(
    "element",
    [
        '<script src="https://elsewhere.example/a.js"></script>',
        '<link rel="stylesheet" href="//elsewhere.example/a.css">',
        '<img src="HTTP://elsewhere.example/a.png">',
        "<style>@import 'https://elsewhere.example/a.css';</style>",
        '<p style="background: url(https://elsewhere.example/a.png)">',
    ],
)
def test_a_page_that_loads_from_elsewhere_is_found(tmp_path: Path, element: str) -> None:
    (tmp_path / "index.html").write_text(element)
    assert len(CHECK_SITE["loaded_from_outside"](tmp_path)) == 1


def test_a_page_that_links_elsewhere_but_loads_nothing_passes(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text('<a href="https://elsewhere.example/">there</a><img src="here.png">')
    assert CHECK_SITE["loaded_from_outside"](tmp_path) == []


def test_the_table_of_extras_says_what_each_brings() -> None:
    declared: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    section = (ROOT / "docs" / "settings.md").read_text().partition("## Extras")[2].partition("## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, re.MULTILINE)
    packages = {extra: [re.split(r"[\[>]", one)[0] for one in needed] for extra, needed in declared.items()}
    assert rows
    assert {extra: re.findall(r"`([\w-]+)`", brought) for extra, brought in rows} == {
        extra: brought for extra, brought in packages.items() if extra not in {"all", "cli", "metrics"}
    }, "cli and metrics: no module uses all that they bring"
