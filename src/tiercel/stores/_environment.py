"""The file of a local store: opened once in each process, set aside where it cannot be used, and never across a fork.

It lasts as long as the machine runs. Nothing is forced to disk for a write, because the page cache outlives processes;
after a start of the machine it begins anew, so neither a torn page nor a clock that went back is ever met.
"""

import fcntl
import mmap
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn
from weakref import WeakValueDictionary

from tiercel.errors import ConfigurationError

try:
    import lmdb
except ImportError as error:  # pragma: no cover - tried by hand, in an environment without the extra
    _MESSAGE = "local:// needs the package lmdb. Install the extra: pip install 'tiercel[local]'."
    raise ConfigurationError(_MESSAGE) from error

FORMAT: Final = 1
"""Part of the file's name: releases with different formats live beside each other."""
KEPT: Final = 3
"""Files that were set aside and are kept; older ones are deleted."""
SLACK: Final = 2
"""The map is so many times as large as what may be stored: pages that a reader still sees cannot be used again."""
SPARE: Final = 64 << 20
READERS: Final = 1024

_TABLES: Final = (b"meta", b"log", b"cuts", b"rows", b"ages", b"ends", b"leases", b"holds", b"peers")
_WORD: Final = 8

ReadError: Final = lmdb.Error
"""What LMDB raises."""


def boot_id() -> str:
    """Names this run of the machine."""
    source = Path("/proc/sys/kernel/random/boot_id")
    if source.exists():
        return source.read_text().strip()
    return str(round(time.time() - time.monotonic(), -2))  # pragma: no cover - not on Linux


def since_boot() -> float:
    """Seconds, the same for all processes of the machine, counted also while it sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Environment:
    """An open file, shared by all stores of this process that are at its path."""

    def __init__(self, path: Path, size: int, told: Callable[[str], None]) -> None:
        self.path = path
        self.size = size
        self.lmdb, self.tables = _usable(path, size, told)
        self._file = os.open(path.with_suffix(".position"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if os.fstat(self._file).st_size < _WORD:
            os.ftruncate(self._file, _WORD)
        self._map = mmap.mmap(self._file, _WORD)
        self.word = memoryview(self._map).cast("Q")
        """Id of the last cut; other processes move it, too."""

    def begin(self, *, write: bool = False) -> Any:  # noqa: ANN401 - a transaction of LMDB, which has no types
        return self.lmdb.begin(write=write, buffers=False)


_open: WeakValueDictionary[Path, Environment] = WeakValueDictionary()
_opening = threading.Lock()


def environment(directory: Path, size: int, told: Callable[[str], None]) -> Environment:
    """The environment in a directory, which LMDB allows to be opened once only.

    Raises:
        ConfigurationError: The directory cannot be written to.
    """
    path = _prepared(directory) / f"tiercel-{FORMAT}.mdb"
    with _opening:
        found = _open.get(path)
        if found is None:
            try:
                found = _open[path] = Environment(path, size, told)
            except OSError as error:
                reason = f"{error.strerror or error}: {Path(error.filename or path).name}"
                raise _not_writable(directory, reason) from error
        return found


def _prepared(directory: Path) -> Path:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = directory.resolve()
        if os.access(directory, os.W_OK | os.X_OK):
            return directory
        reason = "it cannot be written to"
    except OSError as error:
        reason = error.strerror or str(error)
    raise _not_writable(directory, reason)


def _not_writable(directory: Path, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"local://{directory}: {reason}. Give a directory that this user may write to, with all that is in it."
    )


def _usable(path: Path, size: int, told: Callable[[str], None]) -> tuple[Any, dict[bytes, Any]]:
    """Open the file; where it cannot be used, another in its place."""
    # Whether to replace the file is decided by one process at a time.
    with _Guarding(path.with_suffix(".guard")):
        try:
            return _opened(path, size)
        except (lmdb.Error, OSError, _UnusableError) as error:
            told(f"{path.name} was set aside: {error}")
            _set_aside(path)
            return _opened(path, size)


def _opened(path: Path, size: int) -> tuple[Any, dict[bytes, Any]]:
    if path.exists() and not path.is_file():
        _unusable("it is no file")
    environment = lmdb.open(
        str(path),
        map_size=size * SLACK + SPARE,
        subdir=False,
        max_dbs=len(_TABLES),
        max_readers=READERS,
        mode=0o600,
        sync=False,
        metasync=False,
        readahead=False,
    )
    try:
        info = environment.info()
        if path.stat().st_size < (info["last_pgno"] + 1) * environment.stat()["psize"]:
            _unusable("it is shorter than it was")  # to touch what is missing would be the end of the process
        environment.reader_check()
        tables = {name: environment.open_db(name) for name in _TABLES}
        boot = boot_id().encode()
        with environment.begin(write=True) as transaction:
            found = transaction.get(b"boot", db=tables[b"meta"])
            if found is None:
                transaction.put(b"boot", boot, db=tables[b"meta"])
            elif found != boot:
                _unusable("the machine has started anew since it was written")
    except BaseException:
        environment.close()
        raise
    return environment, tables


class _UnusableError(Exception):
    """The file is in order, perhaps, but not ours to use."""


def _unusable(why: str) -> NoReturn:
    raise _UnusableError(why)


class _Guarding:
    """One process at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self._file)


def _set_aside(path: Path) -> None:
    """Out of the way, for somebody to look at; of many, the newest few."""
    aside = sorted(path.parent.glob(f"{path.name}.aside-*"), key=lambda one: one.stat().st_mtime)
    for old in aside[: len(aside) + 1 - KEPT]:
        with suppress(OSError):
            old.unlink()
    path.rename(path.with_name(f"{path.name}.aside-{time.time_ns()}"))
    for beside in (path.with_name(f"{path.name}-lock"), path.with_suffix(".position")):
        beside.unlink(missing_ok=True)


def _forget() -> None:
    """What a parent has opened is of no use to its child: closing it there gives back what is the child's, no more."""
    for env in list(_open.values()):
        env.lmdb.close()
    _open.clear()


os.register_at_fork(after_in_child=_forget)
