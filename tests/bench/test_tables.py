"""Tables, and what they are read from."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks import environments
from benchmarks.__main__ import ALL, QUICK
from benchmarks.instructions import instructions, top
from benchmarks.plots import plot
from benchmarks.report import results
from benchmarks.rows import Benchmark, Result, Row, Run, ratio
from benchmarks.servers import rival
from benchmarks.stampede import is_whole


def nothing(run: Run) -> Iterator[Row]:
    yield from ()


BENCHMARK = Benchmark(name="b", title="Title", method="Method.", rows=nothing)
HERE = Row(name="here", samples=(1.0, 2.0, 3.0), unit="req/s")
GONE = Row(name="gone", samples=(), unit="req/s", note="not installed: no wheel")


def written(*rows: Row, crossed: bool = False) -> str:
    return results([Result(benchmark=replace(BENCHMARK, crossed=crossed), rows=rows)], {}, ["fact"])


@pytest.mark.parametrize("rows", [(HERE, GONE), (GONE, HERE)])
def test_a_peer_that_is_not_here_is_a_row_with_the_reason(rows: tuple[Row, ...]) -> None:
    assert "| gone | – |  |  |  |  | not installed: no wheel |" in written(*rows)
    assert "| here | 2 req/s | 1..3 | 1.00 × |" in written(*rows)


def test_a_budget_over_who_is_not_here_has_no_verdict() -> None:
    judged = replace(HERE, budgets=(ratio("≥", 3.0, over="gone"),))
    assert "**0 of 0 budgets are met.**" in written(judged, GONE)
    assert "**0 of 1 budgets are met.** Not:" in written(replace(judged, budgets=(ratio("≥", 3.0),)), GONE)


def test_a_crossed_table_has_a_line_for_what_and_a_column_for_whom() -> None:
    rows = [
        Row(name="x: LRU", samples=(9.25,), unit="%"),
        Row(name="x: theine", samples=(), unit="%", note="not installed"),
        Row(name="y: LRU", samples=(12.0,), unit="%"),
    ]
    assert "|  | LRU | theine |\n| --- | ---: | ---: |\n| x | 9.2 % | not installed |\n| y | 12.0 % |  |" in written(
        *rows, crossed=True
    )


@pytest.mark.parametrize("crossed", [False, True])
def test_who_is_not_here_is_not_plotted(tmp_path: Path, *, crossed: bool) -> None:
    rows = [Row(name=f"x: {name}", samples=(9.0,), unit="%") for name in ("Tiercel", "LRU", "LFU")]
    rows.append(Row(name="x: theine", samples=(), unit="%", note="not installed"))
    drawn = plot(Result(benchmark=replace(BENCHMARK, crossed=crossed), rows=rows), tmp_path)
    assert (drawn.name, drawn.with_suffix(".png").exists()) == ("b.svg", True)


def test_a_ratio_to_nothing_is_told() -> None:
    answered = Row(name="answered", samples=(1.0,), unit="req/s", budgets=(ratio("≥", 3.0, over="none"),))
    assert "| ≥ 3 × none | – × ✗ |" in written(HERE, answered, Row(name="none", samples=(0.0,), unit="req/s"))


def test_a_quick_run_is_made_of_what_there_is() -> None:
    assert set(QUICK) < set(ALL)


# -- environments ----------------------------------------------------------------------------------------------------


@pytest.fixture
def peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    monkeypatch.setattr(environments, "PLACE", tmp_path / "venvs")
    monkeypatch.setattr(environments, "LOCKS", tmp_path)
    monkeypatch.setattr(environments, "_failed", {})
    (tmp_path / "some-cache.in").write_text("some-cache\n")
    return tmp_path


def test_an_environment_that_cannot_be_made_is_a_row(peers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    (peers / "some-cache.txt").write_text("some-cache==1.0\n")
    environments.provide("some-cache")
    found = rival("Some cache", "some-cache", "memory")
    assert found.missing == "not installed: ERROR: No matching distribution found for some-cache==1.0"


def test_an_environment_is_made_once_for_each_lock(peers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = list[str]()
    for lock in ("# nothing\n", "# nothing\n", "# nothing, otherwise\n"):
        (peers / "some-cache.txt").write_text(lock)
        environments.provide("some-cache")
        said.append(capsys.readouterr().out)
    assert [bool(line) for line in said] == [True, False, True]
    assert not rival("Some cache", "some-cache", "memory").missing


def test_every_peer_is_pinned_with_digests() -> None:
    for asked in environments.LOCKS.glob("*.in"):
        lock = asked.with_suffix(".txt").read_text()
        assert lock.count("==") <= lock.count("--hash=sha256:")
        assert environments.version(asked.stem)


# -- what others say -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "content"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5", b"hello"),
        (b"HTTP/1.1 500 Internal Server Error\r\ndate: now\r\ncontent-length: 21", b"Internal Server Error"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n"),
    ],
)
def test_an_answer_is_whole_when_its_last_byte_has_come(head: bytes, content: bytes) -> None:
    assert [length for length in range(len(content) + 1) if is_whole(head, content[:length])] == [len(content)]


def test_the_functions_of_a_profile_are_read_without_their_places() -> None:
    told = (
        "Ir\n--------------\n1,234 (100.0%)  PROGRAM TOTALS\n\n"
        "  700 (56.7%)  ./Python/ceval.c:_PyEval_EvalFrameDefault'2 [/usr/bin/python3.11]\n"
        "   34 ( 2.8%)  ???:0x00000000001 [/usr/lib/some.so]\n"
    )
    assert top(told, 15) == [(700, "_PyEval_EvalFrameDefault'2"), (34, "0x00000000001")]
    assert len(top(told, 1)) == 1


def test_a_profile_tells_its_instructions_or_is_refused(tmp_path: Path) -> None:
    profile = tmp_path / "out.1"
    profile.write_text("version: 1\nsummary: 246\n\nfn=(1) a\n1 2\n\ntotals: 246\n")
    assert instructions(profile) == 246
    profile.write_text("version: 1\n")
    with pytest.raises(RuntimeError, match="has no total"):
        instructions(profile)
