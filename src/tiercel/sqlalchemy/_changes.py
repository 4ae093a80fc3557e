"""What one transaction has changed so far; what is rolled back to a savepoint was not changed."""

import re
from typing import Final

from tiercel.sqlalchemy._names import Names

MOST: Final = 100
"""Rows of one table that are invalidated one by one; of more, all are."""

_SAVEPOINT: Final = re.compile(
    r"\s*(?P<verb>SAVEPOINT|SAVE\s+TRANSACTION|RELEASE(?:\s+SAVEPOINT)?"
    r"|ROLLBACK(?:\s+WORK|\s+TRANSACTION)?\s+TO(?:\s+SAVEPOINT)?)\s+(?P<name>\S+)",
    re.IGNORECASE,
)


class Changes:
    """Of one transaction, since `born`: what its snapshot shows is no younger."""

    __slots__ = ("_layers", "born", "releasing")

    def __init__(self, born: int) -> None:
        self.born = born
        self.releasing = False
        """The last statement releases a savepoint."""
        self._layers: list[tuple[str, _Layer]] = [("", _Layer())]

    @property
    def some(self) -> bool:
        """Whether there are any."""
        return any(layer.anything or layer.tables for _, layer in self._layers)

    def rows(self, table: str, texts: list[str | None]) -> None:
        """These rows of a table, None: some."""
        layer = self._layers[-1][1]
        rows = layer.tables.setdefault(table, set())
        if rows is None:
            return
        rows.update([text for text in texts if text is not None])
        if None in texts or len(rows) > MOST:
            layer.tables[table] = None

    def anything(self) -> None:
        """Nobody knows what."""
        self._layers[-1][1].anything = True

    def tags(self, names: Names) -> tuple[str, ...]:
        """What to invalidate."""
        tags: dict[str, None] = {}
        for _, layer in self._layers:
            if layer.anything:
                tags[names.everything] = None
            for table, rows in layer.tables.items():
                tags[names.table(table)] = None
                tags.update(dict.fromkeys([names.rows(table)] if rows is None else [names.row(table, r) for r in rows]))
        return tuple(tags)

    def heard(self, sql: str) -> None:
        """A statement that may be about a savepoint."""
        found = _SAVEPOINT.match(sql)
        self.releasing = False
        if found is None:
            return
        verb, name = found["verb"].upper(), found["name"].strip('"`[];').lower()
        if verb.startswith("SAVE"):
            self._layers.append((name, _Layer()))
            return
        place = max([at for at, (known, _) in enumerate(self._layers) if at and known == name], default=0)
        if not place:
            return
        gone = self._layers[place:]
        del self._layers[place:]
        if verb.startswith("ROLLBACK"):
            self._layers.append((name, _Layer()))
            return
        self.releasing = True
        for _, layer in gone:
            self._merge(layer)

    def _merge(self, layer: "_Layer") -> None:
        if layer.anything:
            self.anything()
        for table, rows in layer.tables.items():
            self.rows(table, [None] if rows is None else list(rows))


class _Layer:
    __slots__ = ("anything", "tables")

    def __init__(self) -> None:
        self.anything = False
        self.tables: dict[str, set[str] | None] = {}
        """By table: its rows, None where they are not known one by one."""
