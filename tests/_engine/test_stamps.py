"""The invalidation log of one process."""

import threading
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercel._engine import stamps as log
from tiercel._engine.stamps import Stamps, Verdict
from tiercel.spi import Cut

TAGS = ["a", "b", "c"]


def test_what_was_born_before_a_cut_of_one_of_its_tags_is_unusable() -> None:
    stamps = Stamps()
    born = stamps.position
    stamps.cut(["a"])
    assert stamps.verdict(["a", "b"], born) is Verdict.CUT
    assert stamps.verdict(["b"], born) is Verdict.USABLE
    assert stamps.verdict(["a"], stamps.position) is Verdict.USABLE
    assert stamps.verdict([], born) is Verdict.USABLE


def test_a_soft_cut_makes_stale_and_a_hard_one_wins() -> None:
    stamps = Stamps()
    stamps.cut(["a"], soft=True)
    assert stamps.verdict(["a"], 0) is Verdict.SOFT
    assert stamps.verdict(["a"], 1) is Verdict.USABLE
    stamps.cut(["b"])
    assert stamps.verdict(["a", "b"], 0) is Verdict.CUT
    assert stamps.verdict(["b", "a"], 0) is Verdict.CUT
    stamps.cut(["a"])
    assert stamps.verdict(["a"], 1) is Verdict.CUT


def test_ids_increase_strictly_also_where_nothing_is_named() -> None:
    stamps = Stamps()
    ids = [stamps.cut([]), stamps.cut(["a"]), stamps.cut(["a"], soft=True), stamps.clear(), stamps.cut(["a"])]
    assert ids == [1, 2, 3, 4, 5]
    assert stamps.position == 5


def test_clearing_cuts_everything_born_before() -> None:
    stamps = Stamps()
    stamps.cut(["a"])
    stamps.clear()
    assert stamps.verdict([], 1) is Verdict.CUT
    assert stamps.verdict(["a"], 2) is Verdict.USABLE


@pytest.mark.parametrize("soft", [True, False])
def test_the_log_is_bounded_and_what_it_forgets_is_cut_for_all(soft: bool) -> None:  # noqa: FBT001
    stamps = Stamps(limit=3)
    for number in range(10):
        stamps.cut([f"t{number}"], soft=soft)
    assert stamps.floor == 7
    assert stamps.verdict(["unheard-of"], 6) is Verdict.CUT
    assert stamps.verdict(["unheard-of"], 7) is Verdict.USABLE
    assert stamps.verdict(["t9"], 9) is not Verdict.USABLE


def test_a_tag_that_is_cut_again_is_not_the_oldest_any_more() -> None:
    stamps = Stamps(limit=2)
    stamps.cut(["a"])
    stamps.cut(["b"])
    stamps.cut(["a"])
    stamps.cut(["c"])
    assert stamps.floor == 2
    assert stamps.verdict(["a"], 2) is Verdict.CUT


cuts = st.lists(st.tuples(st.sets(st.sampled_from(TAGS)), st.booleans()), max_size=12)


@given(cuts, st.integers(1, 4), st.sampled_from([1, 256]))
def test_a_bounded_log_never_lets_through_what_an_unbounded_one_stops(
    given_: list[tuple[set[str], bool]], limit: int, fewest: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "_FEWEST", fewest)  # with the one there are as many parts as cuts
        bounded, whole = Stamps(limit=limit), Stamps()
    for tags, soft in given_:
        assert bounded.cut(tags, soft=soft) == whole.cut(tags, soft=soft)
    severity = list(Verdict).index
    for born, tag in product(range(len(given_) + 1), TAGS):
        assert severity(bounded.verdict([tag], born)) >= severity(whole.verdict([tag], born))


@given(cuts)
def test_what_was_once_cut_never_becomes_usable_again(given_: list[tuple[set[str], bool]]) -> None:
    stamps, severity = Stamps(limit=2), list(Verdict).index
    worst: dict[tuple[int, str], int] = {}
    for tags, soft in given_:
        stamps.cut(tags, soft=soft)
        for born, tag in product(range(stamps.position + 1), TAGS):
            found = severity(stamps.verdict([tag], born))
            assert found >= worst.get((born, tag), 0)
            worst[born, tag] = found


def parts_of(stamps: Stamps, *, soft: bool) -> list[int]:
    return [len(part) for part in (stamps._soft if soft else stamps._hard).parts]


@pytest.mark.parametrize("soft", [True, False])
def test_a_log_of_many_cuts_grows_and_forgets_in_parts(soft: bool) -> None:  # noqa: FBT001
    stamps, limit = Stamps(limit=16_384), 16_384
    for number in range(3 * limit):
        stamps.cut([f"t{number}"], soft=soft)
        if number == limit // 2:
            assert stamps.floor == 0
    sizes = parts_of(stamps, soft=soft)
    assert len(sizes) == limit // 256
    assert sum(sizes) == limit
    assert max(sizes) == limit // len(sizes)
    # The tags choose their part, so what is forgotten is about the oldest.
    assert 1.7 * limit < stamps.floor < 2.3 * limit
    assert all(stamps.verdict([f"t{number}"], 0) is Verdict.CUT for number in range(0, 3 * limit, 97))


def test_what_is_cleared_is_given_back_a_part_with_each_cut_or_sweep() -> None:
    stamps = Stamps(limit=16_384)
    for number in range(10_000):
        stamps.cut([f"t{number}"], soft=number % 2 == 0)
    stamps.clear()
    assert parts_of(stamps, soft=True) == parts_of(stamps, soft=False) == [0] * 64
    assert stamps.verdict(["t1"], 10_000) is Verdict.CUT
    assert stamps.verdict(["t1"], 10_001) is Verdict.USABLE
    stamps.cut(["t1"])
    stamps.cut(["t1"], soft=True)
    sweeps = 1
    while stamps.sweep():
        sweeps += 1
    assert sweeps == 63


def test_a_thread_that_reads_while_another_cuts_never_sees_an_earlier_cut_disappear() -> None:
    stamps, over = Stamps(limit=4), threading.Event()
    stamps.cut(["a"])
    seen: set[Verdict] = set()

    def read() -> None:
        while not over.is_set():
            seen.add(stamps.verdict(["a"], 0))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(20_000):
        stamps.cut(["a", f"t{number % 7}"])
    over.set()
    reader.join()
    assert seen == {Verdict.CUT}


def test_a_cut_that_the_shared_log_does_not_know_comes_after_all_that_was_ever_heard_of() -> None:
    stamps = Stamps()
    stamps.apply([], 3)
    adopted = stamps.own(7)
    stamps.cut_meanwhile(["a"], soft=False)
    assert stamps.verdict(["a"], adopted) is Verdict.CUT
    assert stamps.verdict(["b"], adopted) is Verdict.USABLE
    assert stamps.newest > adopted
    assert stamps.position == 3, "what is made now is not known to come after it"
    stamps.cut_meanwhile([], soft=False)
    assert stamps.verdict([], adopted) is Verdict.CUT


@pytest.mark.parametrize("change", ["cut", "soft", "clear", "apply", "all", "reset", "meanwhile"])
def test_whatever_is_cut_what_was_born_before_is_older_than_the_newest(change: str) -> None:
    stamps = Stamps()
    stamps.cut(["a"])
    born = stamps.position
    assert born >= stamps.newest
    match change:
        case "cut":
            stamps.cut(["b"])
        case "soft":
            stamps.cut(["b"], soft=True)
        case "clear":
            stamps.clear()
        case "apply":
            stamps.apply([Cut(id=born + 1, tags=("b",))], born + 1)
        case "all":
            stamps.apply([Cut(id=born + 1, tags=())], born + 1)
        case "reset":
            stamps.reset(0)
        case _:
            stamps.cut_meanwhile(["b"], soft=False)
    assert born < stamps.newest


def test_who_listens_hears_what_hits() -> None:
    stamps = Stamps()
    stamps.cut(["a"])
    with stamps.listening(["a", "k"]) as heard:
        stamps.cut(["b"])
        stamps.cut([])
        stamps.cut(["a", "b"])
        stamps.apply([Cut(id=5, tags=("k",), soft=True), Cut(id=6, tags=("b",))], 6)
        assert heard.hits == {4, 5}
        stamps.clear()
        stamps.cut_meanwhile(["k"], soft=False)
        assert heard.hits == {4, 5, 7, 8}
    stamps.cut(["a"])
    assert heard.hits == {4, 5, 7, 8}
