"""What befalls the file of a local store: it is set aside, lost, outgrown, forked, opened by who lacks something."""

import asyncio
import contextlib
import fcntl
import gc
import os
import resource
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator
from pathlib import Path

import lmdb
import pytest
from local_process import FILE, KEY, Here, Process, parcel

from tiercel.errors import ConfigurationError, StoreError
from tiercel.spi import Ask
from tiercel.stores import _environment, local
from tiercel.stores._environment import Environment, environment

pytestmark = pytest.mark.realtime

WORD, LOCKS, GUARD = "tiercel-1.position", f"{FILE}-lock", "tiercel-1.guard"


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked more often than every second."""
    monkeypatch.setattr(local, "LOOK", 0.05)
    monkeypatch.setattr(_environment, "LOOK", 0.05)


def numbers(place: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in place.iterdir()}


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - it is in other threads and processes
            await asyncio.sleep(0.01)


# -- opened by who lacks something -----------------------------------------------------------------------------------


@contextlib.contextmanager
def few_files(spare: int) -> Generator[None]:
    """So many more can be opened in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    following = os.open("/dev/null", os.O_RDONLY)
    os.close(following)
    resource.setrlimit(resource.RLIMIT_NOFILE, (following + spare, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("spare", [0, 1, 2, 3, 4])
async def test_who_is_short_of_open_files_leaves_the_others_theirs(
    tmp_path: Path, process: Callable[[], Process], spare: int
) -> None:
    there, before = await process().ready(), numbers(tmp_path)
    here = Here(tmp_path)
    await asyncio.to_thread(str)  # the thread is there, which takes no file
    with few_files(spare), pytest.raises(StoreError, match=r"Too many open files.* It is left as it is"):
        async with here.running():
            pass
    assert numbers(tmp_path) == before
    assert here.events == []
    async with here.running():
        cut = await there.do('store.append(["a"])')
        assert here.store.current()
        assert here.log.cuts[-1].id == cut


async def test_a_file_of_another_user_is_a_mistake_and_left_to_them(process: Callable[[], Process]) -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        there = Process(place)
        try:
            await there.ready()
            close_to_others(place)
            before = numbers(place)
            with not_root(), pytest.raises(ConfigurationError, match=r"Permission denied.*that this user may write to"):
                async with Here(place).running():
                    pass
            assert numbers(place) == before
        finally:
            there.end()


def close_to_others(place: Path) -> None:
    place.chmod(0o777)
    for path in place.iterdir():
        path.chmod(0o666 if path.name in (WORD, GUARD) else 0)


@contextlib.contextmanager
def not_root() -> Generator[None]:
    ours = os.geteuid()
    if ours == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(ours)


@contextlib.contextmanager
def with_our_number(place: Path) -> Generator[None]:
    """A process as LMDB would see one of another container."""
    program = f"""
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.lockf(file, fcntl.LOCK_EX, 1, {os.getpid()})
print("locked", flush=True)
sys.stdin.read()
"""
    arguments = [sys.executable, "-c", program, str(place / LOCKS)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield


async def test_two_processes_with_one_number_are_told_to_stay_apart(tmp_path: Path) -> None:
    """Two containers with one volume. LMDB knows a process by a lock at the place of its number."""
    async with Here(tmp_path).running():
        before = numbers(tmp_path)
    with with_our_number(tmp_path):
        with pytest.raises(ConfigurationError, match=rf"process with the number {os.getpid()}.*a directory of its own"):
            async with Here(tmp_path).running():
                pass
        assert numbers(tmp_path) == before


# -- set aside while others have it ----------------------------------------------------------------------------------


def spoil(place: Path) -> None:
    """Who has it open does not look at this any more."""
    with (place / FILE).open("r+b") as file:
        for page in (0, 1):
            file.seek(page * 4096 + 16)
            file.write(b"none")


def lose_the_word(place: Path) -> None:
    (place / WORD).unlink()


def lose_the_locks(place: Path) -> None:
    (place / LOCKS).unlink()


def lose_the_file(place: Path) -> None:
    (place / FILE).unlink()


@pytest.mark.parametrize("damage", [spoil, lose_the_word, lose_the_locks, lose_the_file])
async def test_what_is_cut_in_the_next_file_is_never_found_in_the_one_that_was_set_aside(
    tmp_path: Path, process: Callable[[], Process], damage: Callable[[Path], None]
) -> None:
    here = Here(tmp_path)
    async with here.running():
        await here.store.put(KEY, b"", parcel(tags=("a",)), None)
        damage(tmp_path)
        there = await process().ready()
        assert not here.store.current() or here.log.resets == 2, "it has been told before the other goes on"
        await there.do('store.append(["a"])')
        with contextlib.suppress(StoreError):
            assert await here.blobs() == []


@pytest.mark.parametrize("damage", [spoil, lose_the_word, lose_the_locks, lose_the_file])
@pytest.mark.usefixtures("soon")
async def test_who_had_a_file_that_was_set_aside_goes_on_with_the_next(
    tmp_path: Path, process: Callable[[], Process], damage: Callable[[Path], None]
) -> None:
    here, beside = Here(tmp_path), Here(tmp_path, namespace="beside")
    async with here.running(), beside.running():
        before = environment(tmp_path, 1, print)
        damage(tmp_path)
        there = await process().ready()
        await until(lambda: here.store.current() and beside.store.current() and here.log.resets == 2)
        assert environment(tmp_path, 1, print) is not before
        assert (here.log.resets, beside.log.resets) == (2, 2)
        cut = await there.do('store.append(["a"])')
        assert here.store.current()
        assert here.log.cuts[-1].id == cut
        assert not before.is_there()


async def test_nothing_is_acknowledged_in_a_file_that_is_not_there_any_more(tmp_path: Path) -> None:
    here = Here(tmp_path)
    async with here.running():
        for name in (FILE, WORD, LOCKS):
            (tmp_path / name).unlink()
        with pytest.raises(StoreError, match="its file was set aside"):
            await here.store.append(["a"])
        assert not here.store.current(), "who has looked has marked it"
        assert not here.store.current()
        assert len(here.failures) == 1, "it is said once"
    assert "it could not be left" in here.reasons[0]


@pytest.mark.usefixtures("soon")
async def test_where_the_next_file_cannot_be_opened_it_is_tried_again(tmp_path: Path) -> None:
    here = Here(tmp_path)
    async with here.running():
        (tmp_path / GUARD).unlink()
        (tmp_path / GUARD).mkdir()
        (tmp_path / FILE).unlink()
        await until(lambda: any("Is a directory" in failure for failure in here.failures))
        assert not here.store.current()
        (tmp_path / GUARD).rmdir()
        await until(here.store.current)


def test_a_lost_file_whose_writer_waits_does_not_keep_the_next_from_being_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_environment, "PATIENCE", 0.01)
    before = environment(tmp_path, 8_000_000, print)
    with before._writing:
        (tmp_path / FILE).unlink()
        assert environment(tmp_path, 8_000_000, lambda _: None).is_there()
    with before.lmdb.begin() as reading:
        assert reading.get(b"boot", db=before.tables[b"meta"]) is not None, "it has not been closed"


# -- outgrown --------------------------------------------------------------------------------------------------------


async def grown(there: Process) -> None:
    for number in range(20):
        await there.do(f'store.put(b"{number}", b"", parcel(blob=bytes(300_000)), None)')


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_environment, "SPARE", 1_000_000)


@pytest.mark.usefixtures("small")
async def test_a_map_that_another_process_has_outgrown_is_made_larger(
    tmp_path: Path, process: Callable[[], Process]
) -> None:
    here = Here(tmp_path, size=100_000)
    async with here.running():
        there = await process().ready()
        await grown(there)
        cut = await there.do('store.append(["a"])')
        assert here.store.current(), "by who reads"
        assert here.log.cuts[-1].id == cut
        await grown(there)
        assert await here.store.append(["b"]) == cut + 1
        assert here.failures == []


@pytest.mark.usefixtures("small")
async def test_a_map_is_made_larger_by_who_writes(tmp_path: Path, process: Callable[[], Process]) -> None:
    here = Here(tmp_path, size=100_000)
    async with here.running():
        await grown(await process().ready())
        await here.store.put(KEY, b"", parcel(), None)
        assert await here.blobs() == [b"blob"]


@pytest.mark.usefixtures("small")
async def test_while_our_own_writer_waits_a_map_that_is_too_small_is_said_once(
    tmp_path: Path, process: Callable[[], Process]
) -> None:
    here = Here(tmp_path, size=100_000)
    async with here.running():
        there = await process().ready()
        await grown(there)
        await there.do('store.append(["a"])')
        with environment(tmp_path, 1, print)._writing:
            for _ in range(3):
                assert not here.store.current()
        assert len(here.failures) == 1
        assert "MAP_RESIZED" in here.failures[0]
        assert here.store.current()


# -- forked ----------------------------------------------------------------------------------------------------------


def forked(child: Callable[[], bool]) -> int:
    """What became of it."""
    pid = os.fork()
    if pid == 0:
        os._exit(0 if child() else 1)
    return pid


async def ended(pid: int) -> int:
    async with asyncio.timeout(20):
        _, how = await asyncio.to_thread(os.waitpid, pid, 0)
    return os.waitstatus_to_exitcode(how)


def stores(place: Path) -> Callable[[], bool]:
    async def stores() -> bool:
        own = Here(place)
        async with own.running():
            await own.store.append(["a"])
            return await own.blobs() == [b"blob"]

    def runs() -> bool:
        with asyncio.Runner() as runner:
            asyncio._set_running_loop(None)
            return runner.run(stores())

    return runs


@contextlib.contextmanager
def inside(env: Environment, *, write: bool) -> Generator[threading.Event]:
    """Another thread is, until it is told to go on."""
    begun, go_on = threading.Event(), threading.Event()

    def work() -> None:
        with env.begin(write=write):
            begun.set()
            go_on.wait(20)

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    yield go_on
    go_on.set()
    thread.join()


@pytest.mark.parametrize("write", [True, False])
async def test_a_fork_waits_for_the_transactions_of_other_threads(tmp_path: Path, *, write: bool) -> None:
    here = Here(tmp_path)
    async with here.running():
        await here.store.put(KEY, b"", parcel(), None)
        with inside(environment(tmp_path, 1, print), write=write) as go_on:
            threading.Timer(0.2, go_on.set).start()
            pid = forked(stores(tmp_path))
            assert go_on.is_set()
        assert await ended(pid) == 0
        assert await here.blobs() == [b"blob"]
        assert here.store.current()


@pytest.mark.parametrize("write", [True, False])
async def test_a_child_that_was_forked_inside_a_transaction_does_without_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, write: bool
) -> None:
    monkeypatch.setattr(_environment, "PATIENCE", 0.01)

    def is_refused() -> bool:
        try:
            environment(tmp_path, 1, print)
        except StoreError:
            return True
        return False

    here = Here(tmp_path)
    async with here.running():
        with inside(environment(tmp_path, 1, print), write=write):
            pid = forked(is_refused)
            assert await ended(pid) == 0
        await here.store.append(["a"])
        assert here.store.current()


async def test_a_child_that_was_forked_while_a_file_is_chosen_keeps_nobody_from_choosing(tmp_path: Path) -> None:
    environment(tmp_path, 8_000_000, print)
    guarding = _environment._Guarding(tmp_path / GUARD)
    with guarding, _environment._opening:
        pid = forked(lambda: bool(environment(tmp_path / "other", 1, print)))
        assert await ended(pid) == 0
        reader, writer = os.pipe()
        pid = forked(lambda: os.read(reader, 1) == b"!")
    try:
        await until(lambda: is_free(tmp_path / GUARD))
    finally:
        os.write(writer, b"!")
        assert await ended(pid) == 0
    for end in (reader, writer):
        os.close(end)


def is_free(path: Path) -> bool:
    with path.open() as file, contextlib.suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


async def test_a_reader_may_read_while_it_is_told_of_something(tmp_path: Path) -> None:
    here = Here(tmp_path)
    async with here.running():
        env = environment(tmp_path, 1, print)
        with env.begin():
            assert (await here.store.fetch(Ask(key=KEY, fields={}))).kept == ()


def test_who_opens_what_another_thread_is_closing_waits_for_that(tmp_path: Path) -> None:
    path = tmp_path / FILE
    environment(tmp_path, 8_000_000, pytest.fail)  # and forgotten
    gc.collect()
    before = lmdb.open(str(path), subdir=False, max_dbs=8)
    with pytest.raises(StoreError, match="already open in this process"):
        environment(tmp_path, 8_000_000, pytest.fail)
    closing = threading.Timer(0.05, before.close)
    closing.start()
    assert environment(tmp_path, 8_000_000, pytest.fail).is_there()
    closing.join()
