"""What may be used while nobody knows what others have cut."""

from tiercel._engine import fence as fences
from tiercel._engine.fence import Fence
from tiercel.testing import SimulatedServer, SimulatedStore

RATE = 1_000


class Silent(SimulatedStore):
    """Nobody knows what others have cut."""

    def current(self) -> bool:
        return False


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def fenced() -> tuple[Fence, Clock, float]:
    store, clock = Silent(SimulatedServer()), Clock()
    return Fence(store, clock), clock, store.delta


def test_what_was_stored_is_good_for_a_moment() -> None:
    fence, clock, delta = fenced()
    fence.note(b"a", "one", clock.now)
    assert (fence.young(b"a"), fence.young(b"b")) == ("one", None)
    clock.now += delta / 2
    fence.note(b"a", "two", clock.now)
    clock.now += delta * 0.75
    assert fence.young(b"a") == "two"
    clock.now += delta / 2
    assert fence.young(b"a") is None


def test_of_what_is_too_old_no_more_is_kept_than_comes_in_a_moment() -> None:
    fence, clock, delta = fenced()
    for number in range(5 * RATE):
        clock.now += delta / RATE
        fence.note(b"%d" % (number % 3_000), number, clock.now)
        assert len(fence._young) <= RATE + 1
    assert fence.young(b"%d" % ((5 * RATE - 1) % 3_000)) == 5 * RATE - 1


def test_however_much_is_too_old_a_call_lets_go_of_so_many() -> None:
    fence, clock, delta = fenced()
    for number in range(RATE):
        fence.note(b"%d" % number, number, clock.now)
    clock.now += 2 * delta
    for number in range(RATE // 2):
        before = len(fence._young)
        fence.note(b"new %d" % number, number, clock.now)
        assert before + 1 - len(fence._young) <= fences._FORGOTTEN
    assert len(fence._young) == RATE // 2
