"""One database: what is executed there is read for whatever is being produced; what is committed there is invalidated.

before a statement    what it reads is named, what it changes is noted in its transaction
before a commit       a shared store is promised the cut, where it can be waited for: this process may die
after it              the cut, before whoever commits goes on
rollback              what was noted is forgotten
"""

from collections.abc import Callable
from typing import Any, Final
from weakref import WeakValueDictionary

from sqlalchemy import Connection, Engine, ExceptionContext, Table, event

from tiercel._engine.engine import Engine as CacheEngine
from tiercel._engine.reading import Reads, reading
from tiercel.errors import ConfigurationError
from tiercel.sqlalchemy import _sessions
from tiercel.sqlalchemy._changes import Changes
from tiercel.sqlalchemy._names import Names, text_of, text_of_row
from tiercel.sqlalchemy._promise import Promise
from tiercel.sqlalchemy._statements import Footprint, footprint, is_mapped, names_of, noting, row_of, unseen

TABLES: Final = "tables"
"""The execution option that says what text reads or changes."""
_CHANGES: Final = "tiercel_changes"
_PROMISE: Final = "tiercel_promise"
"""Where, beside a connection, what it changes stands, and what was promised when it was prepared."""
_TOLD: Final = 1_000
"""Texts of which the log says once that nobody knows what they read, and names that no table has."""


class Deaf(set[object]):
    """Of one database in one cache, through whichever engines: who listens to others' changes, and hears nothing."""


_deaf: WeakValueDictionary[tuple[int, str], Deaf] = WeakValueDictionary()
"""By the cache, which its sources keep alive, and the name of the database."""


class Source:
    """A database, through one engine of SQLAlchemy."""

    def __init__(self, engine: Engine, cache: CacheEngine, names: Names) -> None:
        self.cache = cache
        self.names = names
        self.deaf = _deaf.setdefault((id(cache), names.everything), Deaf())
        """While anybody is in it, nothing that is read is stored."""
        self._dialect = engine.dialect
        self._told: set[str] = set()
        self._wrap()
        listeners: dict[str, Callable[..., None]] = {
            "begin": self._begun,
            "begin_twophase": self._begun,
            "rollback": self._rolled_back,
            "rollback_twophase": self._rolled_back,
            "before_cursor_execute": self._executing,
            "after_cursor_execute": self._executed,
            "handle_error": self._failed,
            "after_execute": self._inserted,
        }
        for name, listener in listeners.items():
            event.listen(engine, name, listener)
        engine.clear_compiled_cache()  # what is in it was compiled without taking notes

    # -- reading -----------------------------------------------------------------------------------------------------

    def _executing(
        self, connection: Connection, _cursor: object, sql: str, _parameters: object, context: Any, _many: object
    ) -> None:
        found, changes = footprint(context.compiled, sql), self._changes(connection)
        told: object = context.execution_options.get(TABLES)
        named = None if told is None else self._named(told, sql)
        changes.heard(sql)
        if found.reads or found.unknown or (named and not found.changed):
            self._read(found, context, changes, named)
        if found.changed:
            self._change(found, context, changes, named)
            if found.inserts is not None and _commits_itself(connection):
                changes.rows(found.inserts.name, [None])

    def _named(self, told: object, sql: str) -> list[str]:
        """The tables that text says it is about. They are believed; but one that nobody knows may be misspelled."""
        for name in unseen(told, sql):
            if self._is_new(name) and not is_mapped(name):
                error = ConfigurationError(f"tables={name!r}: no such table is mapped, nor is it in: {_short(sql)}")
                outcome = "It is believed. Give classes or tables, not names: .execution_options(tables=[Product])."
                self.cache.misled("tiercel.sqlalchemy", error, outcome)
        return names_of(told)

    def _read(self, found: Footprint, context: Any, changes: Changes, told: list[str] | None) -> None:
        held: object = context.execution_options.get(_sessions.HELD)
        readers = [reading.get(), held.reads if isinstance(held, _sessions.Held) else None]
        if readers == [None, None]:
            return
        read = Reads()
        self._name(read, found, context, told or [])
        read.older(changes.born)
        if self.deaf:
            read.doubt("not-listening")
        if found.unknown and told is None:
            self._warn(str(context.statement), "read")
            read.doubt("tables-unknown")
        if changes.some and not read.disjoint(changes.tags(self.names)):
            read.doubt("uncommitted")
        for reader in readers:
            if reader is not None:
                reader.join(read)

    def _name(self, read: Reads, found: Footprint, context: Any, told: list[str]) -> None:
        names, row = self.names, None
        if found.row and not told and len(context.compiled_parameters) == 1:
            row = row_of(found.row, context.compiled_parameters[0], self._dialect.name)
        if row is None:
            read.name((names.everything, *[names.table(table) for table in (*found.reads, *told)]))
        else:
            (table,) = found.reads
            read.name((names.everything, names.rows(table)))
            read.part(names.table(table), names.row(table, row))

    # -- changing ----------------------------------------------------------------------------------------------------

    def _change(self, found: Footprint, context: Any, changes: Changes, told: list[str] | None) -> None:
        if found.anything and told is None:
            changes.anything()
            if not context.isddl:
                self._warn(str(context.statement), "changed")
        for table in (*found.changes, *(told or ())):
            changes.rows(table, [None])
        if found.rows is not None:
            table, pins = found.rows
            changes.rows(table, [row_of(pins, one, self._dialect.name) for one in context.compiled_parameters])
        if found.inserts is not None:
            changes.rows(found.inserts.name, [])
        current, held = reading.get(), context.execution_options.get(_sessions.HELD)
        if current is not None and not current.disjoint(changes.tags(self.names)):
            current.doubt("uncommitted")  # it has read what it changes, which may be rolled back
        if isinstance(held, _sessions.Held) and not held.reads.disjoint(changes.tags(self.names)):
            held.doubt("uncommitted")  # what the session holds is changed with it

    def _inserted(
        self, connection: Connection, _clause: object, _multi: object, _params: object, _options: object, result: Any
    ) -> None:
        context = getattr(result, "context", None)
        compiled = getattr(context, "compiled", None)
        table = None if compiled is None else footprint(compiled, "").inserts
        if table is not None and not _commits_itself(connection):
            self._changes(connection).rows(table.name, self._rows_of(table, context))

    def _rows_of(self, table: Table, context: Any) -> list[str | None]:
        """The rows that were added; None for those of which it is not known which they are."""
        columns, dialect = list(table.primary_key), self._dialect.name
        rows: list[str | None] = []
        for keys in context.inserted_primary_key_rows:
            pairs = zip(columns, keys, strict=True)
            rows.append(text_of_row({column.name: text_of(column, key, dialect) for column, key in pairs}))
        return rows or [None]

    def _warn(self, sql: str, what: str) -> None:
        if not self._is_new(sql):
            return
        follows = "What is made of it is not stored" if what == "read" else "Everything of that database is invalidated"
        error = ConfigurationError(f"It is not known what is {what} by: {_short(sql)}")
        self.cache.misled("tiercel.sqlalchemy", error, f"{follows}. Say it: .execution_options(tables=[Product]).")

    def _is_new(self, text: str) -> bool:
        if text in self._told:
            return False
        if len(self._told) < _TOLD:
            self._told.add(text)
        return True

    # -- transactions ------------------------------------------------------------------------------------------------

    def _changes(self, connection: Connection) -> Changes:
        info = connection.info
        found: object = info.get(_CHANGES)
        if not isinstance(found, Changes):
            found = info[_CHANGES] = Changes(self.cache.stamps.position)
        return found

    def _begun(self, connection: Connection, *_: object) -> None:
        connection.info[_CHANGES] = Changes(self.cache.stamps.position)

    def _rolled_back(self, connection: Connection, *_: object) -> None:
        if connection.closed or connection.invalidated:
            return  # and what it was going to change is gone with it
        promise = connection.info.pop(_PROMISE, None)
        self._taken(connection)
        if isinstance(promise, Promise):
            promise.keep()

    def _executed(
        self, connection: Connection, _cursor: object, sql: str, _parameters: object, context: Any, _many: object
    ) -> None:
        if _commits_itself(connection):
            self._promise(self._taken(connection)).keep()
            return
        changes = self._changes(connection)
        # The driver of SQLite may have begun no transaction before a savepoint, which commits when it is released.
        if footprint(context.compiled, sql).commits or (changes.releasing and self._dialect.name == "sqlite"):
            self._promise(changes).keep()  # and it is not forgotten: in text, a commit may be a guess

    def _failed(self, failure: ExceptionContext) -> None:
        """What commits itself may have been committed, in part or as a whole."""
        connection, sql, context = failure.connection, failure.statement, failure.execution_context
        if connection is None or sql is None or context is None:
            return  # it failed before, or after it
        if (table := footprint(context.compiled, sql).inserts) is not None:
            self._changes(connection).rows(table.name, [None])  # of many rows some may have been added
        self._executed(connection, None, sql, None, context, None)

    def _promise(self, changes: Changes) -> Promise:
        return Promise(self.cache, changes.tags(self.names))

    def _taken(self, connection: Any) -> Changes:
        info: dict[Any, Any] = getattr(connection, "info", {})
        changes: object = info.pop(_CHANGES, None)
        return changes if isinstance(changes, Changes) else Changes(0)

    def _wrap(self) -> None:
        """SQLAlchemy has no event that comes after a commit on a connection; so its dialect is asked to say so."""
        dialect: Any = self._dialect
        dialect.statement_compiler = noting(dialect.statement_compiler)
        commit, commit_twophase, prepare = dialect.do_commit, dialect.do_commit_twophase, dialect.do_prepare_twophase

        def do_commit(connection: Any) -> None:
            with self._promise(self._taken(connection)):
                commit(connection)

        def do_prepare_twophase(connection: Connection, xid: object) -> None:
            promise = connection.info[_PROMISE] = self._promise(self._taken(connection))
            promise.give()
            prepare(connection, xid)

        def do_commit_twophase(connection: Connection, xid: object, *args: Any, **given: Any) -> None:
            promise: object = connection.info.pop(_PROMISE, None)
            if not isinstance(promise, Promise):
                promise = self._promise(self._taken(connection))
            if given.get("recover") or args[1:2] == (True,):  # some other process knew what is in it
                promise = Promise(self.cache, (self.names.everything,))
            with promise:
                commit_twophase(connection, xid, *args, **given)

        dialect.do_commit, dialect.do_commit_twophase = do_commit, do_commit_twophase
        dialect.do_prepare_twophase = do_prepare_twophase


def _short(sql: str) -> str:
    return " ".join(sql.split())[:200]


def _commits_itself(connection: Connection) -> bool:
    """Whether each statement is committed as soon as it is executed."""
    level = connection.get_execution_options().get("isolation_level")
    return (level or getattr(connection.dialect, "_on_connect_isolation_level", None)) == "AUTOCOMMIT"
