"""What sessions hold. An object that a session has loaded may be read again without a statement, as it was then.

So what a session has read is read by whoever uses it: a memoised function that was handed the session of its caller,
or the next request, if a session lives that long. What it has flushed, or was handed as it was loaded elsewhere, no
statement has read: until it has forgotten that, what is made of it is not stored.
"""

from typing import Any, Final, cast
from weakref import ref

from sqlalchemy import event, inspect
from sqlalchemy.orm import ORMExecuteState, Session

from tiercel._engine.reading import Reads, reading

HELD: Final = "tiercel_held"
"""The execution option by which a statement says for which session it is executed, and the key in `Session.info`."""


class Held:
    """By one session."""

    __slots__ = ("by", "reads")

    def __init__(self) -> None:
        self.reads = Reads()
        self.by: Reads | None = None
        """For what it was used last, which has read all of that."""

    def doubt(self, why: str) -> None:
        """It holds what cannot be named; whoever uses it from now on has read that."""
        self.reads.doubt(why)
        self.by = None


def used(session: Session) -> Held:
    """It is being used for what is being produced here."""
    held, reads = _held(session), reading.get()
    if reads is not None and reads is not held.by:
        reads.join(held.reads)
        if session.new or session.dirty or session.deleted:
            reads.doubt("uncommitted")
        held.by = reads
    return held


def _held(session: Session) -> Held:
    held = session.info.get(HELD)
    if not isinstance(held, Held) or not (session.in_transaction() or len(session.identity_map)):
        held = session.info[HELD] = Held()
    _watch(session)
    return held


def listen() -> None:
    """To all sessions of the program; twice is as good as once."""
    if not event.contains(Session, "do_orm_execute", _executed):
        event.listen(Session, "do_orm_execute", _executed)
        event.listen(Session, "after_flush", _flushed)
        event.listen(Session, "after_attach", _attached)
        event.listen(Session, "after_commit", _expired)
        event.listen(Session, "after_rollback", _forgotten)


def _executed(state: ORMExecuteState) -> None:
    state.update_execution_options(**{HELD: used(state.session)})


def _flushed(session: Session, _: object) -> None:
    """What it holds may be rolled back; and if its commit leaves it there, it is as old as nobody can tell."""
    _held(session).doubt("uncommitted")


def _attached(session: Session, found: Any) -> None:
    if inspect(found).key is not None:  # it is in the database, and another session has read it there
        _held(session).doubt("objects-unknown")


def _expired(session: Session) -> None:
    if session.expire_on_commit:
        _forgotten(session)


def _forgotten(session: Session) -> None:
    """Nothing that was loaded will be read again without a statement."""
    if not session.in_nested_transaction():
        session.info.pop(HELD, None)


_watching: dict[type[Any], type[Any]] = {}


def _watch(session: Session) -> None:
    """Have the map of the session's objects say when it is looked into: `Session.get` and lazy loads do, silently."""
    identity_map: Any = session.identity_map
    kind: type[Any] = type(cast("object", identity_map))
    if "tiercel_session" in identity_map.__dict__:
        return
    if kind not in _watching:
        _watching[kind] = _watched(kind)
    identity_map.tiercel_session = ref(session)
    identity_map.__class__ = _watching[kind]


def _found(session: Session, found: Any) -> None:
    held = session.info.get(HELD)
    if isinstance(held, Held):
        if held.by is not reading.get():
            used(session)
    elif not inspect(found).expired:  # else it is read again, by a statement
        _held(session).doubt("objects-unknown")
        used(session)


def _watched(kind: type[Any]) -> type[Any]:
    class Watched(kind):  # type: ignore[misc]
        def get(self, key: Any, default: Any = None) -> Any:
            found: Any = kind.get(self, key, default)
            if found is not None:
                session = self.tiercel_session()
                if session is not None:
                    _found(session, found)
            return found

    return Watched
