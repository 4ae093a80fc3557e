"""What a statement reads and changes: noted while it is compiled, when everything is there that will be in it.

Relationships that are joined, criteria that a mapper adds, what is nested in subqueries: a statement does not show
them before. A compiled statement is kept by SQLAlchemy, so this happens once for all of its executions.
"""

# pyright: reportPrivateUsage=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false, reportUnnecessaryIsInstance=false
# What a statement consists of is private, and typed otherwise by each release.

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

from sqlalchemy import BindParameter, Column, Delete, ForeignKeyConstraint, Insert, Table, TableClause, Update, inspect
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.mapper import _all_registries
from sqlalchemy.sql import operators
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList

from tiercel.errors import ConfigurationError
from tiercel.sqlalchemy._names import text_of, text_of_row

Pins = tuple[tuple[Column[Any], str], ...]
"""The columns of a primary key, each with the parameter that it is equal to."""

_NESTED: Final = re.compile(r"\b(select|table|values|from|join|call|execute)\b", re.IGNORECASE)
_COMMENT: Final = re.compile(r"('(?:[^']|'')*')|--[^\n]*|/\*.*?\*/", re.DOTALL)
"""Or, as a group, a literal, in which may stand what only looks like one."""
_NESTING: Final = "*/"
"""What is left of a comment that has another in it."""
_WORD: Final = re.compile(r"\w+")
_READS: Final = frozenset({"select", "values", "table"})
_CHANGES: Final = frozenset({"insert", "update", "delete", "merge", "replace", "truncate"})
_COMMITS: Final = frozenset({"commit", "end"})
_NEITHER: Final = frozenset(
    {"analyze", "begin", "deallocate", "listen", "lock", "notify", "pragma", "prepare", "release"}
    | {"reset", "rollback", "savepoint", "set", "show", "start", "unlisten", "vacuum"}
)
_OF_ARGUMENTS: Final = re.compile(r"(generate_|json|jsonb_|unnest|regexp_|string_to_|unaccent)", re.IGNORECASE)
"""Functions that make rows of their arguments, and of nothing else."""


@dataclass(slots=True)
class Notes:
    """What came by while a statement was compiled."""

    tables: list[TableClause] = field(default_factory=list[TableClause])
    changed: list[Insert | Update | Delete] = field(default_factory=list[Insert | Update | Delete])
    selects: int = 0
    nested: bool = False
    unknown: bool = False
    """There was text in which anything may stand."""
    anything: bool = False
    """There was text that may change anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What a statement reads and changes, whatever its parameters."""

    reads: tuple[str, ...] = ()
    row: Pins = ()
    """It reads one row of the only table in `reads`."""
    unknown: bool = False
    """It may read something else."""
    changes: tuple[str, ...] = ()
    """Tables of which nobody knows which rows."""
    rows: tuple[str, Pins] | None = None
    """It changes one row for each set of parameters."""
    inserts: Table | None = None
    """It adds rows, whose primary keys are known once it is executed."""
    anything: bool = False
    """It may change anything."""
    commits: bool = False
    """It ends its transaction, by text."""

    @property
    def changed(self) -> bool:
        """Whether it may change something."""
        return self.anything or bool(self.changes) or self.rows is not None or self.inserts is not None


class _Noting:
    """Goes in front of the compiler of a dialect."""

    stack: list[Any]

    @property
    def notes(self) -> Notes:
        notes: Notes = self.__dict__.setdefault("tiercel_notes", Notes())
        return notes

    def visit_table(self, table: TableClause, *args: Any, **kw: Any) -> Any:
        if args or kw.get("asfrom") or kw.get("within_tstring"):
            self.notes.tables.append(table)
        return cast("Any", super()).visit_table(table, *args, **kw)

    def visit_select(self, select_stmt: Any, *args: Any, **kw: Any) -> Any:
        self.notes.selects += 1
        return cast("Any", super()).visit_select(select_stmt, *args, **kw)

    def visit_compound_select(self, cs: Any, *args: Any, **kw: Any) -> Any:
        self.notes.nested = True
        return cast("Any", super()).visit_compound_select(cs, *args, **kw)

    def visit_textclause(self, textclause: Any, *args: Any, **kw: Any) -> Any:
        self.notes.unknown |= not self.stack or bool(kw.get("asfrom") or _NESTED.search(textclause.text))
        return cast("Any", super()).visit_textclause(textclause, *args, **kw)

    def visit_textual_select(self, taf: Any, *args: Any, **kw: Any) -> Any:
        text: str = cast("Any", super()).visit_textual_select(taf, *args, **kw)
        self.notes.unknown = True
        self.notes.anything |= not _CHANGES.isdisjoint(_words(text))
        return text

    def visit_tstring(self, tstring: Any, *args: Any, **kw: Any) -> Any:
        self.notes.unknown = True
        return cast("Any", super()).visit_tstring(tstring, *args, **kw)

    def visit_column(self, column: Any, *args: Any, **kw: Any) -> Any:
        self.notes.unknown |= column.is_literal and bool(_NESTED.search(str(column.name)))
        return cast("Any", super()).visit_column(column, *args, **kw)

    def visit_function(self, func: Any, *args: Any, **kw: Any) -> Any:
        self.notes.unknown |= bool(kw.get("asfrom")) and not _OF_ARGUMENTS.match(func.name)
        return cast("Any", super()).visit_function(func, *args, **kw)

    def visit_insert(self, insert_stmt: Any, *args: Any, **kw: Any) -> Any:
        self.notes.changed.append(insert_stmt)
        return cast("Any", super()).visit_insert(insert_stmt, *args, **kw)

    def visit_update(self, update_stmt: Any, *args: Any, **kw: Any) -> Any:
        self.notes.changed.append(update_stmt)
        return cast("Any", super()).visit_update(update_stmt, *args, **kw)

    def visit_delete(self, delete_stmt: Any, *args: Any, **kw: Any) -> Any:
        self.notes.changed.append(delete_stmt)
        return cast("Any", super()).visit_delete(delete_stmt, *args, **kw)


def noting(compiler: type[SQLCompiler]) -> type[SQLCompiler]:
    """A compiler that takes notes."""
    kind: Any = type(compiler)
    made: type[SQLCompiler] = kind(compiler.__name__, (_Noting, compiler), {})
    return made


def footprint(compiled: Any, sql: str) -> Footprint:
    """What a statement reads and changes; `sql` is its text."""
    found = getattr(compiled, "tiercel_footprint", None)
    if isinstance(found, Footprint):
        return found
    if isinstance(compiled, SQLCompiler) and not isinstance(compiled, _Noting):
        made = _without_parameters(footprint(_again(compiled), sql))
    else:
        made = _made(compiled, sql)
    if compiled is not None:
        vars(compiled)["tiercel_footprint"] = made
    return made


def row_of(pins: Pins, values: Mapping[str, Any], dialect: str) -> str | None:
    """The text of the row that is meant; None where that cannot be told."""
    return text_of_row({column.name: text_of(column, values.get(name), dialect) for column, name in pins})


def sources(table: TableClause) -> Iterator[str]:
    """The table itself, or what a view says in its `info` that it shows."""
    yield table.name
    shown: object = table.info.get("tables", ()) if isinstance(table, Table) else ()
    yield from names_of(shown)


def names_of(tables: object) -> list[str]:
    """Names of tables, which were given as such, as tables, or as classes that are mapped to them."""
    found: list[str] = []
    for one in _each(tables):
        mapper = inspect(one, raiseerr=False) if isinstance(one, type) else None
        if isinstance(one, TableClause):
            found.append(one.name)
        elif isinstance(mapper, Mapper):
            found += [table.name for table in mapper.tables if isinstance(table, TableClause)]
        elif isinstance(one, str):
            found.append(one.rpartition(".")[2])
        else:
            message = f"tables={tables!r}: {one!r} is no table. Give names, tables, or mapped classes."
            raise ConfigurationError(message)
    return found


def unseen(tables: object, sql: str) -> list[str]:
    """Names that do not stand in the statement that they are given for."""
    text, found = sql.lower(), [one for one in _each(tables) if isinstance(one, str)]
    return [name for name in names_of(found) if not re.search(rf"(?<!\w){re.escape(name.lower())}(?!\w)", text)]


def is_mapped(name: str) -> bool:
    """Whether some class is mapped to a table of this name, or to one that is described beside it."""
    found = {table for one in _all_registries() for table in one.metadata.tables.values()}
    mapped = {table for one in _all_registries() for mapper in one.mappers for table in mapper.tables}
    return name.lower() in {str(getattr(table, "name", "")).lower() for table in found | mapped}


def _each(tables: object) -> tuple[object, ...]:
    alone = isinstance(tables, str | type | TableClause) or not isinstance(tables, Iterable)
    return (tables,) if alone else tuple(cast("Iterable[object]", tables))


def _again(compiled: Any) -> Any:
    """What was compiled before there was anybody to take notes: mappers keep some statements for ever."""
    return compiled.statement.compile(dialect=compiled.dialect, column_keys=compiled.column_keys)


def _without_parameters(found: Footprint) -> Footprint:
    """Their names may be others."""
    changes = found.changes if found.rows is None else (found.rows[0], *found.changes)
    return replace(found, row=(), rows=None, changes=changes)


def _made(compiled: Any, sql: str) -> Footprint:
    notes: Notes | None = getattr(compiled, "tiercel_notes", None)
    statement = _statement(compiled)
    if notes is None or (notes.unknown and not notes.tables and not notes.changed):
        return _of_text(sql)
    tables = tuple(dict.fromkeys([name for table in notes.tables for name in sources(table)]))
    if not notes.changed:
        row = _row(compiled, statement, notes)
        return Footprint(reads=tables, row=row, unknown=notes.unknown, anything=notes.anything)
    alone = len(notes.changed) == 1 and isinstance(statement, Insert | Update | Delete) and not notes.anything
    if alone and not statement._returning:
        return _changing(compiled, statement)
    changed = tuple(dict.fromkeys([name for one in notes.changed for name in _reached(compiled, one)]))
    # What it returns is read; of what a part of it has returned, all the rest may be made.
    reads = tuple(dict.fromkeys((*tables, *changed)))
    return Footprint(reads=reads, unknown=notes.unknown, changes=changed, anything=notes.anything)


def _statement(compiled: Any) -> Any:
    """As the ORM has left it to Core."""
    made = getattr(getattr(compiled, "compile_state", None), "statement", None)
    return getattr(compiled, "statement", None) if made is None else made


def _of_text(sql: str) -> Footprint:
    """Of all statements in it, of which some drivers take several at once. In doubt it may change anything."""
    said, bare = _words(sql), _COMMENT.sub(r"\1", sql)
    found = [_of_words(words, said) for words in map(_words, bare.split(";")) if words] or [_of_words([], said)]
    # Where a literal or a comment ends, each database has rules of its own.
    hidden = _NESTING in bare or (";" in sql.rstrip("; \n") and not _CHANGES.isdisjoint(said))
    return Footprint(
        unknown=hidden or any(one.unknown for one in found),
        anything=hidden or any(one.anything for one in found),
        commits=any(one.commits for one in found) or (hidden and not _COMMITS.isdisjoint(said)),
    )


def _words(sql: str) -> list[str]:
    return _WORD.findall(sql.lower())


def _of_words(words: Sequence[str], said: Sequence[str]) -> Footprint:
    """Of one statement; `said` are all words of its text, also in comments and literals."""
    first = words[0] if words else ""
    if first in _COMMITS:
        return Footprint(commits=True, anything="prepared" in words)  # which another transaction has changed
    if first in _NEITHER:
        return Footprint()
    if first in _READS or (first == "with" and _CHANGES.isdisjoint(said)):
        return Footprint(unknown=True)
    return Footprint(unknown=first not in _CHANGES or "returning" in words, anything=True)


def _row(compiled: Any, statement: Any, notes: Notes) -> Pins:
    """One table, once, and its whole primary key: then what is read depends on that row alone, if there is one."""
    if notes.selects != 1 or notes.nested or notes.unknown or len(notes.tables) != 1:
        return ()
    table = notes.tables[0]
    if not isinstance(table, Table) or "tables" in table.info:
        return ()
    return _pins(compiled, getattr(statement, "_where_criteria", ()), table)


def _changing(compiled: Any, statement: Insert | Update | Delete) -> Footprint:
    table = cast("TableClause", statement.table)
    reached = tuple(_reached(compiled, statement))
    if not isinstance(table, Table) or "tables" in table.info:
        return Footprint(changes=reached)
    if isinstance(statement, Insert):
        return Footprint(inserts=table) if _is_plain(statement) else Footprint(changes=reached)
    pins = _pins(compiled, statement._where_criteria, table)
    moves = isinstance(statement, Update) and any(one.key in _given(compiled, statement) for one in table.primary_key)
    own, *others = reached  # among the others is its own table, where rows of it go with this one
    return Footprint(changes=reached) if not pins or moves else Footprint(rows=(own, pins), changes=tuple(others))


def _is_plain(statement: Insert) -> bool:
    """Whether it only adds rows. Where there is a conflict another may change one that some other column tells."""
    return statement.select is None and statement._post_values_clause is None and not statement._prefixes


def _pins(compiled: Any, criteria: Iterable[Any], table: Table) -> Pins:
    found: dict[str, tuple[Column[Any], str]] = {}
    for one in _conditions(criteria):
        if not isinstance(one, BinaryExpression) or one.operator is not operators.eq:
            continue
        sides = (one.left, one.right)
        column, bound = sides if isinstance(sides[0], Column) else sides[::-1]
        if not isinstance(column, Column) or not isinstance(bound, BindParameter) or bound.expanding:
            continue
        owner: object = column.table
        name = compiled.bind_names.get(bound)
        if isinstance(owner, Table) and owner.fullname == table.fullname and name is not None:
            found.setdefault(column.name, (column, name))
    keys = [column.name for column in table.primary_key]
    return tuple([found[name] for name in keys]) if keys and all(name in found for name in keys) else ()


def _conditions(criteria: Iterable[Any]) -> Iterator[Any]:
    """What all of them have to be."""
    for one in criteria:
        if isinstance(one, BooleanClauseList) and one.operator is operators.and_:
            yield from _conditions(one.clauses)
        else:
            yield one


def _given(compiled: Any, statement: Update) -> set[str]:
    """Keys of the columns that it may set."""
    named = [*(statement._values or ()), *[key for key, _ in getattr(statement, "_ordered_values", None) or ()]]
    return {str(getattr(key, "key", key)) for key in named} | set(compiled.column_keys or ())


def _reached(compiled: Any, statement: Insert | Update | Delete) -> Iterator[str]:
    """Its table, and those that foreign keys have the database change with it."""
    table = cast("TableClause", statement.table)
    yield from sources(table)
    if not isinstance(table, Table):
        return
    match statement:
        case Delete():
            yield from _following(table, "ondelete", set())
        case Update():
            given = _given(compiled, statement)
            yield from _following(table, "onupdate", set(), {one.name for one in table.c if one.key in given})
        case Insert() if not _is_plain(statement):
            yield from _following(table, "ondelete", set())  # INSERT OR REPLACE
            yield from _following(table, "onupdate", set())
        case Insert():
            pass


def _following(table: Table, rule: str, seen: set[str], columns: set[str] | None = None) -> Iterator[str]:
    """The tables whose foreign keys say so, of those that refer to these columns; None: to any."""
    for other in table.metadata.tables.values():
        rules = [getattr(key, rule) for key in other.foreign_key_constraints if _refers(key, table, columns)]
        if other.name in seen or all(one is None or one.upper() in {"NO ACTION", "RESTRICT"} for one in rules):
            continue
        seen.add(other.name)
        yield other.name
        # What is set to NULL there may be part of a key that others refer to.
        yield from _following(other, rule, seen)
        yield from _following(other, "onupdate", seen)


def _refers(constraint: ForeignKeyConstraint, table: Table, columns: set[str] | None) -> bool:
    targets = [element.target_fullname.rpartition(".") for element in constraint.elements]
    return any(
        owner == table.fullname and (columns is None or column in columns or table.c[column].name in columns)
        for owner, _, column in targets
    )
