"""Triggers of PostgreSQL that tell of what is changed, whoever does it: `{"table": "products", "rows": [[42]]}`.

Once for a statement, and heard when its transaction has been committed. Rows are named by their primary keys, in the
order of the names of the columns; `null` is any of them: there are too many. So is `[]`: there is no key, or one whose
values may be equal and written differently.
"""

from typing import Any, Final

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql

from tiercel.errors import ConfigurationError

CHANNEL: Final = "tiercel"

_quote = postgresql.dialect().identifier_preparer.quote  # type: ignore[no-untyped-call]

_FUNCTION: Final = """
CREATE OR REPLACE FUNCTION tiercel_notify() RETURNS trigger LANGUAGE plpgsql AS $tiercel$
DECLARE
  most integer := 100;
  longest integer := 7900;  -- bytes: a notification takes less than 8,000
  few text := ' LIMIT ' || most + 1 || ')';
  key text;
  found jsonb;
  message text;
BEGIN
  IF TG_OP <> 'TRUNCATE' THEN
    SELECT CASE WHEN bool_and(t.typname IN ('int2', 'int4', 'int8', 'uuid', 'text', 'varchar')
        AND c.collisdeterministic IS NOT FALSE)
      THEN string_agg('to_jsonb(' || quote_ident(a.attname) || ')', ', ' ORDER BY a.attname COLLATE "C") END INTO key
      FROM pg_catalog.pg_index i
      JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
      JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
      LEFT JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation
      WHERE i.indrelid = TG_RELID AND i.indisprimary;
    key := '(SELECT jsonb_build_array(' || coalesce(key, '') || ') AS k FROM ';
    EXECUTE 'SELECT coalesce(jsonb_agg(k), ''[]'') FROM (' || CASE TG_OP
      WHEN 'INSERT' THEN key || 'new_rows' || few
      WHEN 'DELETE' THEN key || 'old_rows' || few
      ELSE key || 'old_rows' || few || ' UNION ' || key || 'new_rows' || few END || ') AS r' INTO found;
    IF jsonb_array_length(found) = 0 THEN
      RETURN NULL;
    END IF;
    IF jsonb_array_length(found) > most THEN
      found := NULL;
    END IF;
  END IF;
  message := jsonb_build_object('table', TG_TABLE_NAME, 'rows', found)::text;
  IF octet_length(message) > longest THEN
    message := jsonb_build_object('table', TG_TABLE_NAME, 'rows', NULL)::text;
  END IF;
  PERFORM pg_notify(TG_ARGV[0], message);
  RETURN NULL;
END
$tiercel$
"""

_NO_LONGER_USED: Final = """
DO $tiercel$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgfoid = to_regproc('tiercel_notify')) THEN
    DROP FUNCTION IF EXISTS tiercel_notify();
  END IF;
END
$tiercel$
"""

_ROWS: Final = {
    "insert": " REFERENCING NEW TABLE AS new_rows",
    "update": " REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
    "delete": " REFERENCING OLD TABLE AS old_rows",
    "truncate": "",
}


def create_triggers(*tables: Any, channel: str = CHANNEL) -> list[str]:
    """The statements that have PostgreSQL, 14 or later, tell of each change of these tables, whoever makes it.

    Args:
        tables: Names (`"products"`, `"shop.products"`), tables, or mapped classes.
        channel: The channel that `listening` listens to.

    Raises:
        ConfigurationError: One is no table.

    Example:
        >>> from tiercel.sqlalchemy import create_triggers
        >>> for statement in create_triggers("products"):  # in a migration: op.execute(statement)
        ...     print(" ".join(statement.split()[:7]))
        CREATE OR REPLACE FUNCTION tiercel_notify() RETURNS trigger
        CREATE OR REPLACE TRIGGER tiercel_insert AFTER INSERT
        CREATE OR REPLACE TRIGGER tiercel_update AFTER UPDATE
        CREATE OR REPLACE TRIGGER tiercel_delete AFTER DELETE
        CREATE OR REPLACE TRIGGER tiercel_truncate AFTER TRUNCATE
    """
    statements = [_FUNCTION.strip()]
    for table in map(_name, tables):
        statements += [
            f"CREATE OR REPLACE TRIGGER tiercel_{what} AFTER {what.upper()} ON {table}{rows}"
            f" FOR EACH STATEMENT EXECUTE FUNCTION tiercel_notify({_literal(channel)})"
            for what, rows in _ROWS.items()
        ]
    return statements


def drop_triggers(*tables: Any) -> list[str]:
    """The statements that undo `create_triggers`; the last one drops the function, where no other table uses it.

    Args:
        tables: As there.

    Raises:
        ConfigurationError: One is no table.

    Example:
        >>> from tiercel.sqlalchemy import drop_triggers
        >>> drop_triggers("products")[0]
        'DROP TRIGGER IF EXISTS tiercel_insert ON products'
    """
    dropped = [f"DROP TRIGGER IF EXISTS tiercel_{what} ON {table}" for table in map(_name, tables) for what in _ROWS]
    return [*dropped, _NO_LONGER_USED.strip()]


def _name(table: Any) -> str:
    table = getattr(table, "__table__", table)
    if isinstance(table, Table):
        parts = [part for part in (table.schema, table.name) if part]
    elif isinstance(table, str):
        parts = table.split(".")
    else:
        message = f"{table!r} is no table. Give names, tables, or mapped classes."
        raise ConfigurationError(message)
    return ".".join([_quote(part) for part in parts])


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
