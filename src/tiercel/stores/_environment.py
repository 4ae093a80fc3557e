"""The file of a local store: opened once in each process, set aside where it cannot be used, and never across a fork.

It lasts as long as the machine runs. Nothing is forced to disk for a write, because the page cache outlives processes;
after a start of the machine it begins anew, so neither a torn page nor a clock that went back is ever met.

Others may have a file that is set aside. It leaves its path first, then its word is marked as gone:

    who writes   moves the word → looks at the path → commits; or marks the word, where that is another's path now
    who reads    looks at the word, and once a second at the path

So nothing is acknowledged in a file that is gone. Where the word is gone, too, there is nothing to mark: then whoever
begins the next file waits until the others have looked.
"""

import errno
import fcntl
import mmap
import os
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn
from weakref import WeakSet, WeakValueDictionary

from tiercel.errors import ConfigurationError, StoreError, TiercelError

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
SPARE = 64 << 20
"""Bytes that it has beyond that; half of them are for when it is full, and something is to be let go of."""
STEPS: Final = 8
READERS: Final = 1024
GONE: Final = 2**64 - 1
"""The word of a file that was set aside."""
LOOK = 1.0
"""Seconds between two looks at the path."""
PATIENCE: Final = 1.0
"""Seconds that a fork waits for a transaction to end."""

_TABLES: Final = (b"meta", b"log", b"cuts", b"rows", b"ages", b"ends", b"leases", b"holds", b"peers")
_WORD: Final = 8
_DAMAGED: Final = (
    lmdb.InvalidError,
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.VersionMismatchError,
    lmdb.IncompatibleError,
)
_SHORT: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC)

_OPEN_HERE: Final = "already open in this process"
"""What py-lmdb says, until the one before is closed."""

ReadError: Final = lmdb.Error
"""What LMDB raises."""
FullError: Final = lmdb.MapFullError
"""There is no room left in the map."""


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
        self.lmdb, self.tables, self.word, self._number = _usable(path, size, told)
        self._reading = threading.RLock()  # who observes what is read may read, too
        self._writing = threading.Lock()
        _environments.add(self)

    @contextmanager
    def begin(self, *, write: bool = False) -> Generator[Any]:
        """A transaction, for whose end a fork waits, and a change of the map's size.

        Raises:
            StoreError: It was set aside.
        """
        with self._writing if write else self._reading:
            if self.word[0] == GONE:
                raise self._gone()
            with self._begun(write=write) as transaction:
                yield transaction
                if write and not self.is_there():
                    raise self._gone()

    def is_there(self) -> bool:
        """Whether it is the file at its path; where not, nothing is read from it any more once this has returned."""
        if self.word[0] != GONE and _number_of(self.path) == self._number:
            return True
        with self._reading:
            self.word[0] = GONE
        return False

    def grow(self) -> None:
        """By a step, until the spare room is used up: also to delete takes room."""
        with self._writing, self._reading:
            size = self.lmdb.info()["map_size"] + SPARE // 2 // STEPS
            if size <= self.size * SLACK + SPARE:
                self.lmdb.set_mapsize(size)

    def pause(self) -> bool:
        """Wait until no transaction is under way, and let none begin; whether that is so."""
        if self._writing.acquire(timeout=PATIENCE):
            if self._reading.acquire(timeout=PATIENCE):
                return True
            self._writing.release()
        return False

    def resume(self) -> None:
        self._reading.release()
        self._writing.release()

    def _begun(self, *, write: bool) -> Any:  # noqa: ANN401 - a transaction of LMDB, which has no types
        try:
            return self.lmdb.begin(write=write)
        except lmdb.MapResizedError:  # by a process that may store more
            other = self._reading if write else self._writing
            if not other.acquire(blocking=write):  # our own writer may have to wait, and sees to it when it is its turn
                raise
            try:
                self.lmdb.set_mapsize(0)
            finally:
                other.release()
            return self.lmdb.begin(write=write)

    def _gone(self) -> StoreError:
        return StoreError(f"local://{self.path.parent}: its file was set aside. The next one is opened in a moment.")


_environments: "WeakSet[Environment]" = WeakSet()
_open: WeakValueDictionary[Path, Environment] = WeakValueDictionary()
_opening = threading.Lock()


def environment(directory: Path, size: int, told: Callable[[str], None]) -> Environment:
    """The environment in a directory, which LMDB allows to be opened once only.

    Raises:
        ConfigurationError: The directory cannot be written to, or is another container's.
        StoreError: It cannot be opened now.
    """
    path = _prepared(directory) / f"tiercel-{FORMAT}.mdb"
    with _opening:
        found = _open.get(path)
        if found is not None and found.is_there():
            return found
        if found is not None and found.pause():
            found.lmdb.close()
            found.resume()
        until = time.monotonic() + PATIENCE
        while True:
            try:
                found = _open[path] = Environment(path, size, told)
            except (lmdb.Error, OSError) as error:
                # Whoever had it last may just be closing it, in another thread.
                if _OPEN_HERE not in str(error) or time.monotonic() > until:
                    raise _not_opened(directory, error) from error
                time.sleep(0.001)
            else:
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


def _not_opened(directory: Path, error: Exception) -> TiercelError:
    """What is wrong is not the file, so it stays where it is: others may be at work in it."""
    if isinstance(error, lmdb.LockError):
        return ConfigurationError(
            f"local://{directory}: it is open in another process with the number {os.getpid()}, in another container. "
            "Give each container a directory of its own, or use redis://."
        )
    if isinstance(error, lmdb.ReadonlyError):
        return _not_writable(directory, str(error))
    if isinstance(error, OSError) and error.errno not in _SHORT:
        return _not_writable(directory, f"{error.strerror or error}: {Path(error.filename or directory).name}")
    return StoreError(f"local://{directory}: {error}. It is left as it is. See to what this process lacks.")


def _not_writable(directory: Path, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"local://{directory}: {reason}. Give a directory that this user may write to, with all that is in it."
    )


class _Opened(NamedTuple):
    lmdb: Any
    tables: dict[bytes, Any]
    word: "memoryview[int]"
    """Id of the last cut; other processes move it, too."""
    number: tuple[int, int] | None


def _usable(path: Path, size: int, told: Callable[[str], None]) -> _Opened:
    """Open the file; where it cannot be used, another in its place."""
    # Whether to replace the file is decided by one process at a time.
    with _Guarding(path.with_suffix(".guard")):
        try:
            return _opened(path, size)
        except (*_DAMAGED, _UnusableError) as error:
            told(f"{path.name} was set aside: {error}")
            _set_aside(path)
            return _opened(path, size)


def _opened(path: Path, size: int) -> _Opened:
    if path.exists() and not path.is_file():
        _unusable("it is no file")
    begun = path.exists() and path.stat().st_size > 0
    if any(beside.exists() != begun for beside in _beside(path)):
        _unusable("some of what belongs to it is not there")  # others may have what is gone, and go on with it
    word = _word(_beside(path)[0])
    if word[0] == GONE:
        _unusable("others have lost it")
    environment = lmdb.open(
        str(path),
        map_size=size * SLACK + SPARE // 2,
        subdir=False,
        max_dbs=len(_TABLES),
        max_readers=READERS,
        max_spare_txns=0,  # a child that closes it would give the parent's away
        mode=0o600,
        sync=False,
        metasync=False,
        readahead=False,
    )
    try:
        return _Opened(environment, _tables(path, environment), word, _number_of(path))
    except BaseException:
        environment.close()
        raise


def _tables(path: Path, environment: Any) -> dict[bytes, Any]:  # noqa: ANN401
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
    return tables


def _beside(path: Path) -> tuple[Path, Path]:
    """The word, and LMDB's locks."""
    return path.with_suffix(".position"), path.with_name(f"{path.name}-lock")


def _word(path: Path) -> "memoryview[int]":
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(file).st_size < _WORD:
            os.ftruncate(file, _WORD)
        return memoryview(mmap.mmap(file, _WORD)).cast("Q")
    finally:
        os.close(file)


def _number_of(path: Path) -> tuple[int, int] | None:
    """Tells a file from any other that is open; None: there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


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
        _guards.add(self._file)
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        _guards.discard(self._file)
        os.close(self._file)


_guards: set[int] = set()


def _set_aside(path: Path) -> None:
    """Out of the way, for somebody to look at; of many, the newest few."""
    aside = sorted(path.parent.glob(f"{path.name}.aside-*"), key=lambda one: one.stat().st_mtime)
    for old in aside[: len(aside) + 1 - KEPT]:
        with suppress(OSError):
            old.unlink()
    begun = path.exists()
    if begun:
        path.rename(path.with_name(f"{path.name}.aside-{time.time_ns()}"))
    if not _marked(_beside(path)[0]) and begun:
        time.sleep(1.5 * LOOK)  # until the others have looked
    for beside in _beside(path):
        beside.unlink(missing_ok=True)


def _marked(path: Path) -> bool:
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        os.pwrite(file, GONE.to_bytes(_WORD, sys.byteorder), 0)
    finally:
        os.close(file)
    return True


# -- forks -----------------------------------------------------------------------------------------------------------

_forking = threading.Lock()
_paused: list[Environment] = []


def _before_fork() -> None:
    """Nobody is inside LMDB: what a thread of the parent has begun there, the child could not end."""
    _forking.acquire()
    _paused.extend([env for env in list(_environments) if env.pause()])


def _after_fork() -> None:
    for env in _paused:
        env.resume()
    _paused.clear()
    _forking.release()


def _forget() -> None:
    """What a parent has opened is of no use to its child: closing it there gives back what is the child's, no more.

    What could not be paused is left alone: the child cannot open that file, and does without the store.
    """
    global _opening  # noqa: PLW0603 - a thread of the parent may have it
    _opening = threading.Lock()
    for env in _paused:
        env.lmdb.close()
    for file in _guards:
        os.close(file)
    _guards.clear()
    _open.clear()
    _environments.clear()
    _after_fork()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_forget)
