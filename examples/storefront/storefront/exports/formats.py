"""Rows as lines of CSV and of NDJSON."""

import csv
from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Any

from pydantic_core import to_json

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""A spreadsheet takes a text that begins like this for something to compute: CWE-1236."""


def csv_lines(rows: Iterable[Sequence[Any]]) -> bytes:
    """Write rows of CSV, RFC 4180. A text that a spreadsheet would compute has a quote mark before it."""
    lines = StringIO(newline="")
    csv.writer(lines).writerows([_cell(value) for value in row] for row in rows)
    return lines.getvalue().encode()


def json_lines(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Write an object of JSON per row, each in a line of its own."""
    return b"".join(to_json(dict(zip(names, row, strict=True))) + b"\n" for row in rows)


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
