"""Where stored responses are kept."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercel._core import keys, memory
from tiercel._core.calls import Value
from tiercel._core.entry import Coded, Entry, Partial, Request
from tiercel._engine.stamps import Stamps
from tiercel._engine.tiers import VARIANTS, Tiers, key_tag, weigh

KEY = b"k" * 16
NOW = 1_000.0


def entry(body: bytes = b"hello", *, variant: bytes = b"", **more: Any) -> Entry:
    selecting = keys.selecting([b"accept"], [(b"accept", variant)]) if variant else ()
    given_: dict[str, Any] = {"tags": (), "born": 0, "lifetime": 60.0, **more}
    given_ = {"asked_at": NOW, "answered_at": given_.get("asked_at", NOW), **given_}
    return Entry(method="GET", status=200, headers=[], body=body, selecting=selecting, **given_)


def tiers(bound: int = 1_000_000) -> tuple[Tiers, Stamps]:
    stamps = Stamps()
    return Tiers(bound, stamps), stamps


def bodies(found: Tiers, key: bytes = KEY) -> list[bytes]:
    shelf = found.shelf(key)
    return [one.body for one in shelf.entries] if shelf else []


def test_what_is_stored_is_found_newest_first() -> None:
    found, _ = tiers()
    assert found.store(KEY, entry(b"a", variant=b"a"), NOW) == ""
    assert found.store(KEY, entry(b"b", variant=b"b"), NOW) == ""
    assert found.store(KEY, entry(b"c", variant=b"a"), NOW) == ""
    assert bodies(found) == [b"c", b"b"]
    assert bodies(found, b"other") == []


def test_what_was_cut_softly_meanwhile_can_still_be_dropped() -> None:
    found, stamps = tiers()
    found.store(KEY, entry(tags=("t",)), NOW)
    shelf = found.shelf(KEY)
    assert shelf is not None
    seen = shelf.entries[0]
    stamps.cut(["t"], soft=True)
    found.drop(KEY, seen)
    assert bodies(found) == []


@pytest.mark.parametrize("tag", ["t", key_tag(KEY)])
def test_what_is_cut_is_not_found_and_its_bytes_are_gone(tag: str) -> None:
    found, stamps = tiers()
    found.store(KEY, entry(tags=("t",)), NOW)
    stamps.cut([tag])
    assert bodies(found) == []
    assert len(found.memory) == 0


def test_of_a_shelf_only_that_is_cut_which_has_the_tag() -> None:
    found, stamps = tiers()
    found.store(KEY, entry(b"a", variant=b"a", tags=("a",)), NOW)
    found.store(KEY, entry(b"b", variant=b"b", tags=("b",)), NOW)
    stamps.cut(["a"])
    assert bodies(found) == [b"b"]
    stamps.cut(["other"])
    assert bodies(found) == [b"b"]


def test_what_was_born_before_a_cut_is_not_stored_after_it() -> None:
    found, stamps = tiers()
    stamps.cut(["t"])
    assert found.store(KEY, entry(tags=("t",), born=0), NOW) == "invalidated"
    assert found.store(KEY, entry(tags=("t",), born=1), NOW) == ""


@pytest.mark.parametrize("late", [True, False])
def test_a_soft_cut_makes_stale_what_is_there_and_what_comes_late(late: bool) -> None:  # noqa: FBT001
    found, stamps = tiers()
    given_ = entry(tags=("t",), stale_while_revalidate=5.0, stale_if_error=7.0)
    if not late:
        found.store(KEY, given_, NOW)
    stamps.cut(["t"], soft=True)
    if late:
        assert found.store(KEY, given_, NOW) == ""
    for _ in range(2):
        shelf = found.shelf(KEY)
        assert shelf is not None
        stale = shelf.entries[0]
        assert (stale.lifetime, stale.stale_while_revalidate, stale.stale_if_error) == (0.0, 65.0, 67.0)
        assert shelf.plain_until == 0.0
        stamps.cut(["t"], soft=True)  # another one takes nothing more


def test_a_full_shelf_takes_no_newcomer_and_loses_nothing() -> None:
    found, _ = tiers(10_000_000)
    for number in range(VARIANTS):
        assert found.store(KEY, entry(b"%d" % number, variant=b"%d" % number), NOW) == ""
    assert found.store(KEY, entry(b"x", variant=b"x"), NOW) == "variants-full"
    assert found.store(KEY, entry(b"y", variant=b"7"), NOW) == ""
    assert len(bodies(found)) == VARIANTS
    assert found.store(KEY, entry(b"x", variant=b"x"), NOW + 10_000) == ""


def test_what_is_too_large_loses_nothing() -> None:
    found, _ = tiers(100_000)
    found.store(KEY, entry(b"a", variant=b"a"), NOW)
    assert found.store(KEY, entry(b"x" * 12_000, variant=b"b"), NOW) == "too-large"
    assert found.store(b"other", entry(b"x" * 20_000), NOW) == "too-large"
    assert bodies(found) == [b"a"]


def test_what_would_push_out_too_many_loses_nothing_of_its_shelf_and_fits_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "EVICTIONS", 10)
    found, _ = tiers(500_000)
    for number in range(1_000):
        found.store(b"%d" % number, entry(), NOW)
    found.store(KEY, entry(b"a", variant=b"a"), NOW)
    large = entry(b"x" * 50_000, variant=b"b")
    assert found.store(KEY, large, NOW) == "too-large"
    assert bodies(found) == [b"a"]
    assert "" in [found.store(KEY, large, NOW) for _ in range(6)]
    assert bodies(found) == [large.body, b"a"]


def test_what_has_ended_goes_a_part_with_each_that_comes_until_none_is_left() -> None:
    found, _ = tiers(10_000_000)
    ended = 3 * memory.LOOKS
    for number in range(ended):
        found.store(b"%d" % number, entry(), NOW)
    left: list[int] = []
    for number in range(5):
        found.store(b"new %d" % number, entry(asked_at=NOW + 100), NOW + 100)
        left.append(len(found.memory) - number - 1)
    assert left == [2 * memory.LOOKS, memory.LOOKS, 0, 0, 0]


class Steps:
    """Counts all that one call does for others: slots that leave their queue or bucket, or what was cleared."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        for kind, name in ((memory.Queue[Any], "remove"), (memory.Leaving[Any], "step")):
            self._count(monkeypatch, kind, name)

    def _count(self, monkeypatch: pytest.MonkeyPatch, kind: Any, name: str) -> None:
        original = getattr(kind, name)

        def counted(*args: Any) -> None:
            self.count += 1
            original(*args)

        monkeypatch.setattr(kind.__origin__, name, counted)


def test_all_that_one_may_have_to_do_at_once_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the cache has been cleared and filled again, much has ended, all is hot, and something large comes."""
    found, _ = tiers(20_000_000)
    names = [b"%016d" % number for number in range(20_000_000 // (weigh(entry()) + len(KEY) + memory.OVERHEAD))]
    for name in names:
        found.store(name, entry(), NOW)
    found.clear()
    steps, counts = Steps(monkeypatch), list[int]()

    def store(key: bytes, one: Entry, now: float) -> None:
        steps.count = 0
        found.store(key, one, now)
        counts.append(steps.count)

    for number, name in enumerate(names):
        store(name, entry(lifetime=60.0 if number % 2 else 6_000.0), NOW)
    for name in names * memory.MOST_READS:
        found.memory.get(name)
    for now in (NOW + 100, NOW + 100, NOW + 100.5):
        store(KEY, entry(b"x" * 2_000_000), now)
    found.clear()
    store(KEY, entry(), NOW + 200)
    rooms = memory.EVICTIONS + memory.SPARED
    assert memory.LOOKS + rooms - 10 < max(counts) <= memory.LOOKS + 2 * memory.SWEPT + rooms + 1
    assert memory.SWEPT <= max(counts[: len(names)]) <= 2 * memory.SWEPT


def test_parts_are_combined_with_what_is_there() -> None:
    found, _ = tiers()
    tagged = [(b"etag", b'"1"')]
    for first, body in ((0, b"abc"), (3, b"def")):
        part = Partial(first=first, last=first + 2, complete=6)
        found.store(KEY, replace(entry(body), status=206, headers=tagged, partial=part), NOW)
    assert bodies(found) == [b"abcdef"]


def test_a_part_is_not_combined_with_what_was_cut() -> None:
    found, stamps = tiers()
    tagged = [(b"etag", b'"1"')]
    found.store(
        KEY,
        replace(entry(b"abc", tags=("t",)), status=206, headers=tagged, partial=Partial(first=0, last=2, complete=6)),
        NOW,
    )
    stamps.cut(["t"])
    part = Partial(first=3, last=5, complete=6)
    found.store(KEY, replace(entry(b"def", tags=("t",), born=1), status=206, headers=tagged, partial=part), NOW)
    assert bodies(found) == [b"def"]


def test_a_marker_stands_beside_what_is_stored_and_goes_with_what_comes() -> None:
    found, _ = tiers()
    found.mark(KEY, until=NOW + 2, now=NOW)
    shelf = found.shelf(KEY)
    assert shelf is not None
    assert (shelf.entries, shelf.pass_until) == ((), NOW + 2)
    found.store(KEY, entry(), NOW)
    shelf = found.shelf(KEY)
    assert shelf is not None
    assert shelf.pass_until == 0.0
    found.mark(KEY, until=NOW + 2, now=NOW)
    assert (shelf.pass_until, bodies(found)) == (NOW + 2, [b"hello"])


def test_a_marker_outlives_an_invalidation() -> None:
    found, stamps = tiers()
    found.mark(KEY, until=NOW + 2, now=NOW)
    stamps.cut(["t"])
    shelf = found.shelf(KEY)
    assert shelf is not None
    assert shelf.pass_until == NOW + 2


def test_one_response_is_taken_off_its_shelf() -> None:
    found, _ = tiers()
    for name in (b"a", b"b"):
        found.store(KEY, entry(name, variant=name), NOW)
    shelf = found.shelf(KEY)
    assert shelf is not None
    found.drop(KEY, shelf.entries[0])
    assert bodies(found) == [b"a"]
    found.drop(KEY, replace(entry(b"a", variant=b"a"), answered_at=NOW + 1))  # another answer
    assert bodies(found) == [b"a"]
    found.drop(KEY, shelf.entries[0])
    assert len(found.memory) == 0
    found.drop(KEY, entry())


def test_what_is_past_all_use_goes() -> None:
    found, _ = tiers()
    found.store(KEY, entry(lifetime=10.0), NOW)
    found.store(b"other", entry(), NOW + 1)
    assert len(found.memory) == 2
    found.store(b"third", entry(), NOW + 10_000)
    assert len(found.memory) == 1


def test_a_clock_that_was_set_back_stops_nothing() -> None:
    found, _ = tiers()
    found.store(KEY, entry(), NOW + 1_000_000)
    found.store(b"other", entry(lifetime=1.0), NOW)
    found.store(b"third", entry(), NOW + 5_000)
    assert bodies(found, b"other") == []


def test_clearing_gives_all_bytes_back() -> None:
    found, _ = tiers()
    found.store(KEY, entry(), NOW)
    found.clear()
    assert (len(found.memory), found.memory.weight) == (0, 0)


def test_values_and_responses_keep_apart() -> None:
    found, stamps = tiers()
    value = Value(payload=1, tags=("t",), born=0, made_at=NOW, fresh_until=NOW + 60)
    assert found.store_value(KEY, value, weight=10, now=NOW)
    assert found.shelf(KEY) is None
    assert found.value(KEY) == (value, False)
    stamps.cut(["t"], soft=True)
    assert found.value(KEY) == (value, True)
    stamps.cut(["t"])
    assert found.value(KEY) is None
    assert not found.store_value(KEY, value, weight=10, now=NOW)
    found.store(KEY, entry(born=2), NOW)
    assert found.value(KEY) is None
    assert bodies(found) == [b"hello"]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 9_000)), max_size=40))
def test_memory_stays_under_its_bound(stores: list[tuple[int, int, int]]) -> None:
    found, _ = tiers(100_000)
    for key, variant, size in stores:
        found.store(b"%d" % key, entry(b"x" * size, variant=b"%d" % variant), NOW)
        assert found.memory.weight <= 100_000
        shelves: list[Any] = [slot.value for _, slot in found.memory.entries()]
        held = sum([weigh(one) for shelf in shelves for one in shelf.entries])
        assert held <= found.memory.weight


def test_a_request_is_answered_from_its_variant_only() -> None:
    found, _ = tiers()
    found.store(KEY, entry(b"a", variant=b"a"), NOW)
    shelf = found.shelf(KEY)
    assert shelf is not None
    for value, expected in ((b"a", b"a"), (b"b", None)):
        chosen = keys.select(shelf.entries, Request("GET", "http", b"", b"/", [(b"accept", value)]))
        assert (chosen.body if chosen else None) == expected


def test_a_coding_that_there_is_no_room_for_does_not_cost_the_response() -> None:
    """More of the others would have to go for it than may go at once."""
    found, _ = tiers(4_000_000)
    for number in range(20_000):
        found.store_value(
            b"%016d" % number, Value(payload=b"", born=0, made_at=NOW, fresh_until=NOW + 60), weight=8, now=NOW
        )
    one = entry(b"x" * 20_000)
    assert found.store(KEY, one, NOW) == ""
    assert not found.encode(KEY, one, Coded(b"gzip", b"y" * 450_000, b";gzip"), NOW)
    assert bodies(found) == [one.body]
