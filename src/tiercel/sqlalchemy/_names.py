"""Tags: of a database, of a table, of a row; one text for one value of a primary key, whoever reads or writes it.

A reader of the table carries                 `sql`  `sql:products`
a reader of one row                           `sql`  `sql:products:*`  `sql:products:42`
whoever changes the row cuts                         `sql:products`    `sql:products:42`
whoever changes it knows not which rows cuts         `sql:products`    `sql:products:*`
and of whom nobody knows what he has changed  `sql`

Names of schemas are left out: what may be one table has one name. Tables of one name in two schemas share theirs.
"""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

from sqlalchemy import VARCHAR, Column, Integer, String, Text, Unicode, UnicodeText, Uuid
from sqlalchemy.types import TEXT

_STRINGS: Final = frozenset({String, Text, Unicode, UnicodeText, VARCHAR, TEXT})
_EXACT: Final = frozenset({"postgresql", "sqlite"})
"""Where two strings are equal in a column without a collation of its own only if they are the same."""
_LONGEST: Final = 120


class Names:
    """Of the tables and rows of one database."""

    __slots__ = ("everything",)

    def __init__(self, everything: str) -> None:
        self.everything = everything

    def table(self, name: str) -> str:
        """Of all that was read of a table, but for single rows."""
        return f"{self.everything}:{quote(name.lower(), safe='')}"

    def rows(self, name: str) -> str:
        """Of single rows of a table, whichever."""
        return f"{self.table(name)}:*"

    def row(self, name: str, text: str) -> str:
        """Of one row."""
        return f"{self.table(name)}:{text}"


def text_of_row(values: Mapping[str, str | None]) -> str | None:
    """Of the texts of a primary key, by the names of its columns; None: it cannot be told."""
    texts = [values[name] for name in sorted(values)]
    known = [text for text in texts if text is not None]
    if not known or len(known) < len(texts):
        return None
    text = ",".join(known)
    return text if len(text) <= _LONGEST else f"~{blake2b(text.encode(), digest_size=16).hexdigest()}"


def text_of(column: Column[Any], value: object, dialect: str) -> str | None:
    """Of one value; None where values that are not the same may be equal in the database, or be written otherwise."""
    kind = column.type
    if isinstance(kind, Integer) and type(value) is int:
        return str(value)
    if isinstance(kind, Uuid) and type(value) is UUID:
        return str(value)
    exact = type(kind) in _STRINGS and getattr(kind, "collation", None) is None and dialect in _EXACT
    return _quoted(value) if exact and type(value) is str else None


def text_of_json(values: Iterable[object]) -> str | None:
    """Of the values of a primary key as a trigger sends them, in the order of the names of the columns."""
    texts: list[str | None] = []
    for value in values:
        text = str(value) if type(value) is int else _quoted(value) if isinstance(value, str) else None
        texts.append(text)
    return text_of_row({f"{place:03}": text for place, text in enumerate(texts)})


def _quoted(value: str) -> str:
    return quote(value, safe="", errors="surrogatepass")
