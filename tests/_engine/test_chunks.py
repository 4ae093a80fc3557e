"""Bodies while they grow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercel._engine.chunks import OVERHEAD, Chunks, Room


def test_there_is_room_until_it_is_taken() -> None:
    room = Room(1000)
    chunks = Chunks(room)
    assert room.fits(1000 - OVERHEAD)
    assert not room.fits(1001 - OVERHEAD)
    chunks.append(b"x" * 500)
    assert room.taken == chunks.weight == 500 + OVERHEAD
    assert not room.fits(500)
    chunks.clear()
    assert (room.taken, chunks.weight, len(chunks)) == (0, 0, 1)


def test_the_whole_is_all_there_was_and_the_last_one() -> None:
    chunks = Chunks(Room(1000))
    last = b"only"
    assert chunks.whole(last) is last
    chunks.append(b"a")
    chunks.append(b"b")
    assert chunks.whole(b"c") == b"abc"


@pytest.mark.parametrize("until", [0, 1, 2, 3])
def test_what_was_dropped_is_still_counted(until: int) -> None:
    chunks = Chunks(Room(1000))
    for chunk in (b"a", b"b", b"c"):
        chunks.append(chunk)
    assert chunks.drop(until) is (until > 0)
    assert not chunks.drop(until)
    assert len(chunks) == 3
    assert [chunks[at] for at in range(until, 3)] == [b"a", b"b", b"c"][until:]


@given(st.lists(st.one_of(st.binary(max_size=9), st.integers(0, 9))))
def test_the_room_knows_what_is_kept(steps: list[bytes | int]) -> None:
    room = Room(10_000)
    chunks, others = Chunks(room), Chunks(room)
    others.append(b"other")
    kept: list[bytes | None] = []
    for step in steps:
        if isinstance(step, bytes):
            chunks.append(step)
            kept.append(step)
        else:
            chunks.drop(min(step, len(chunks)))
            kept[: min(step, len(kept))] = [None] * min(step, len(kept))
        assert chunks.weight == sum(len(one) + OVERHEAD for one in kept if one is not None)
        assert room.taken == chunks.weight + others.weight
        assert [chunks[at] for at, one in enumerate(kept) if one is not None] == [
            one for one in kept if one is not None
        ]
