"""Leases of a local store: who produces what, until when, and whether that process still lives.

What is of another length is nobody's.
"""

import os
from functools import lru_cache
from pathlib import Path
from struct import Struct
from typing import Any, Final

_ROW: Final = Struct(">dIQ16s")
_HOLDER: Final = Struct(">IQ")


def holder() -> bytes:
    """Names this process, so that others can see whether it lives."""
    return _HOLDER.pack(os.getpid(), _own(os.getpid()))


def pid_of(holder: bytes) -> int:
    """Its number."""
    return int(_HOLDER.unpack(holder)[0])


def lives(holder: bytes) -> bool:
    """Whether it does."""
    if len(holder) != _HOLDER.size:
        return False
    pid, started = _HOLDER.unpack(holder)
    return bool(_started(pid) == started)


def left(transaction: Any, table: Any, lane: bytes, now: float) -> float:  # noqa: ANN401 - LMDB has no types
    """Seconds until the lease ends at the latest; 0.0: nobody holds one that lives."""
    found = transaction.get(lane, db=table)
    if found is None or len(found) != _ROW.size:
        return 0.0
    until, pid, started, _ = _ROW.unpack(found)
    return max(0.0, until - now) if _started(pid) == started else 0.0


def grant(  # noqa: PLR0913 - a row of the table
    transaction: Any,  # noqa: ANN401
    table: Any,  # noqa: ANN401
    lane: bytes,
    token: bytes,
    *,
    until: float,
    now: float,
) -> None:
    """Write it down for this process; and forget some that are over."""
    for name, row in _near(transaction, table, lane):
        if len(row) != _ROW.size or _ROW.unpack(row)[0] <= now:
            transaction.delete(name, db=table)
    transaction.put(lane, _ROW.pack(until, os.getpid(), _own(os.getpid()), token), db=table)


def release(transaction: Any, table: Any, lane: bytes, token: bytes) -> None:  # noqa: ANN401
    """End it, if it is still this one."""
    found = transaction.get(lane, db=table)
    if found is not None and found.endswith(token):
        transaction.delete(lane, db=table)


def _near(transaction: Any, table: Any, lane: bytes) -> list[tuple[bytes, bytes]]:  # noqa: ANN401
    """Names are digests, so each time these are others."""
    with transaction.cursor(db=table) as cursor:
        return [pair for pair, _ in zip(cursor, range(8), strict=False)] if cursor.set_range(lane) else []


def _started(pid: int) -> int:
    """When a process began, in ticks since the start of the machine: a number is used again, that with it is not.

    0 where there is none, or where it is only waited for by its parent any more.
    """
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text(encoding="latin-1").rpartition(") ")[2].split()
    except OSError:
        return 0
    return 0 if after_name[0] in "ZX" else int(after_name[19])


@lru_cache(maxsize=1)
def _own(pid: int) -> int:
    return _started(pid)
