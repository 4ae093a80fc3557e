"""What the table of hit ratios is made of: traces, and the policies that ours is compared with."""

from collections import Counter
from pathlib import Path

import pytest
from benchmarks import traces
from benchmarks.policies import POLICIES, Lfu, Lru, hits
from benchmarks.ratio import of_file, room
from benchmarks.rows import Run
from hypothesis import given
from hypothesis import strategies as st

TRACES = st.lists(st.sampled_from("abcdef"), max_size=60)
ROOM = st.integers(1, 5)


@given(TRACES, ROOM)
def test_lru_keeps_what_was_asked_for_last(trace: list[str], room: int) -> None:
    lru = Lru(room)
    for place, key in enumerate(trace):
        latest = list(dict.fromkeys(reversed(trace[:place])))[:room]
        assert lru.read(key) == (key in latest)


@given(TRACES, ROOM)
def test_lfu_lets_go_of_the_least_used_and_of_those_the_least_recently_used(trace: list[str], room: int) -> None:
    lfu = Lfu(room)
    uses = dict[str, int]()
    last = dict[str, int]()
    for place, key in enumerate(trace):
        assert lfu.read(key) == (key in uses)
        if key not in uses and len(uses) == room:
            victim = min(uses, key=lambda one: (uses[one], last[one]))
            del uses[victim]
        uses[key] = uses.get(key, 0) + 1
        last[key] = place


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_with_room_for_all_misses_each_key_once(policy: str) -> None:
    trace = traces.zipf(50, 1_000, 0.9)
    assert hits(POLICIES[policy](60), trace) == len(trace) - len(set(trace))


def test_traces_are_the_same_each_time_and_as_long_as_they_should_be() -> None:
    assert traces.made(100, 900) == traces.made(100, 900)
    assert {name: len(trace) for name, trace in traces.made(100, 900).items() if len(trace) != 900} == {
        "Zipf 0.9, scans of all keys": 800
    }


def test_the_higher_the_exponent_the_more_is_asked_for_the_same() -> None:
    most = [Counter(traces.zipf(100, 5_000, exponent)).most_common(1)[0][1] for exponent in traces.EXPONENTS]
    assert most == sorted(set(most))


def test_what_drifts_ends_elsewhere() -> None:
    trace = traces.drifting(100, 10_000)
    first, last = (Counter(part).most_common(1)[0][0] for part in (trace[:500], trace[4_750:5_250]))
    assert abs(int(last) - int(first)) >= 30


def test_a_recorded_trace_has_a_key_per_line_whatever_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "trace").write_bytes(b"a b\n\n\xff\na b\n")
    assert len(traces.recorded(tmp_path / "trace")) == 3
    assert len(set(traces.recorded(tmp_path / "trace"))) == 2


def test_a_recorded_trace_is_a_table_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("\n".join(["a", "b"] * 10))
    found = {row.name: row.samples for row in of_file(tmp_path / "mine").rows(Run(quick=True))}
    assert found["mine, room for 1 %: LRU"] == (0.0,)
    assert {name for name in found if name.endswith("Tiercel")} == {
        "mine, room for 1 %: Tiercel",
        "mine, room for 10 %: Tiercel",
    }


def test_an_empty_trace_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n\n")
    with pytest.raises(ValueError, match="empty is empty: a trace has one key per line"):
        list(of_file(tmp_path / "empty").rows(Run(quick=True)))


def test_there_is_room_for_one_key_at_least() -> None:
    assert (room(20_000, 1), room(20_000, 10), room(5, 1)) == (200, 2_000, 1)
