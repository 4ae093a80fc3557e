"""What is particular to a store in a file: processes, forks, kills, files that cannot be used, an end of room."""

import asyncio
import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import pytest
from local_process import FILE, KEY, PLAY, Here, Process, parcel

from tiercel import Cache
from tiercel.errors import ConfigurationError, StoreError
from tiercel.spi import Ask
from tiercel.stores import _environment, _ledger
from tiercel.stores._environment import GONE, KEPT, _open, boot_id, environment, since_boot
from tiercel.stores._leases import _started
from tiercel.stores.local import LocalStore

pytestmark = pytest.mark.realtime


# -- several processes -----------------------------------------------------------------------------------------------


async def test_a_cut_elsewhere_is_applied_before_memory_is_trusted_again(
    tmp_path: Path, process: Callable[[], Process]
) -> None:
    here, there = Here(tmp_path), await process().ready()
    async with here.running():
        for number in range(20):
            cut = await there.do(f'store.append(["{number}"])')
            assert here.store.current()
            assert (here.log.cuts[-1].id, here.log.cuts[-1].tags) == (cut, (f"{number}",))


async def test_what_other_namespaces_of_the_file_cut_keeps_nothing_from_being_stored(tmp_path: Path) -> None:
    """Ids are counted over the whole file: those of others are not missing."""
    cache, other = Cache(f"local://{tmp_path}", namespace="a"), Cache(f"local://{tmp_path}", namespace="b")
    asked: list[None] = []

    @cache.memoize(ttl=3600, tags="settings")
    async def settings() -> int:
        return 1

    @cache.memoize(ttl=3600, tags="products")
    async def products() -> int:
        asked.append(None)
        return await settings()

    async def write(_: int) -> None:
        await other.invalidate("something else")

    await settings()
    await other.invalidate("y")
    await cache.invalidate("products")
    assert [await products() for _ in range(5)] == [1] * 5
    assert len(asked) == 1
    await cache.write_through("limit", 10, write, ttl=60)
    assert await cache.get("limit") == 10
    await cache.aclose()
    await other.aclose()


async def test_what_one_process_stores_another_finds_after_the_first_has_gone(
    tmp_path: Path, process: Callable[[], Process]
) -> None:
    there = await process().ready()
    await there.do('store.put(b"key", b"", parcel(blob=b"theirs"), None)')
    there.end()
    here = Here(tmp_path)
    async with here.running():
        assert await here.blobs() == [b"theirs"]
        await here.store.put(b"other", b"", parcel(b"ours"), None)
    async with here.running():
        assert await here.blobs(b"other") == [b"ours"]


async def test_the_lease_of_a_process_that_was_killed_is_nobodys(
    tmp_path: Path, process: Callable[[], Process]
) -> None:
    here, there = Here(tmp_path), await process().ready()
    async with here.running():
        assert await there.do("take()")
        found = await here.store.fetch(Ask(key=KEY, fields={}, lease=60.0))
        assert found.lease is None
        assert found.wait > 50.0
        there.end()
        assert (await here.store.fetch(Ask(key=KEY, fields={}, lease=60.0))).lease is not None


def test_a_process_is_told_from_a_later_one_with_its_number() -> None:
    assert _started(os.getpid()) > 0
    assert _started(2**22 + 1) == 0
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert _started(child.pid) == 0, "it is dead, and only waited for"
    child.wait()


async def test_killed_in_the_middle_of_a_write_nothing_is_lost_and_nobody_waits(
    tmp_path: Path, process: Callable[[], Process]
) -> None:
    here, there = Here(tmp_path), await process().ready()
    async with here.running():
        await here.store.put(KEY, b"", parcel(tags=("a",)), None)
        await there.do("die_in_the_middle()")
        there.end()
        assert not here.store.current(), "the word tells of a cut that nobody has committed"
        assert await here.blobs() == [b"blob"]
        async with asyncio.timeout(5):
            cut = await here.store.append(["a"])
        assert here.store.current()
        assert here.log.cuts[-1].id == cut
        assert await here.blobs() == []


async def test_a_word_that_nobody_stands_behind_is_put_right_by_the_next_write(tmp_path: Path) -> None:
    here = Here(tmp_path)
    async with here.running():
        environment(tmp_path, 8_000_000, print).word[0] += 3
        assert not here.store.current()
        await here.store.put(KEY, b"", parcel(), None)
        assert here.store.current()


async def test_no_read_that_begins_after_an_acknowledged_cut_finds_what_was_born_before(
    tmp_path: Path, process: Callable[[], Process]
) -> None:
    """Property P, among processes that all write, cut and read the same keys."""
    here = Here(tmp_path)
    others = [await process().ready() for _ in range(2)]
    async with here.running():
        counts = await asyncio.gather(*[one.do("play(300)") for one in others], _play(here, 300))
    assert all(wrong == 0 for wrong, _ in counts), counts
    assert all(found > 20 for _, found in counts), counts


async def _play(here: Here, rounds: int) -> tuple[int, int]:
    space: dict[str, Any] = {**globals(), "store": here.store, "log": here.log}
    exec(PLAY, space)  # noqa: S102 - the same lines as in the other processes
    played: tuple[int, int] = await space["play"](rounds)
    return played


async def test_who_is_further_behind_than_the_log_reaches_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_ledger, "LEAST", 32_000)
    here, other = Here(tmp_path, size=200_000), Here(tmp_path)
    async with here.running(), other.running():
        for number in range(100):
            await other.store.append([f"{number}"])
        assert here.store.current()
        assert (here.log.resets, len(here.log.cuts)) == (1, 100)
        for number in range(500):
            await other.store.append([f"{number}"])
        assert here.store.current()
        assert (here.log.resets, here.log.cuts, here.log.position) == (2, [], other.log.position)


async def test_cuts_take_no_more_room_than_their_records_and_are_not_forgotten_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_ledger, "LEAST", 32_000)
    here = Here(tmp_path, size=200_000)
    async with here.running():
        await here.store.put(KEY, b"", parcel(b"old", tags=("a",), born=here.log.position), None)
        await here.store.append(["a"])
        for number in range(1_000):
            await here.store.append([f"{number}"])
        await here.store.put(KEY, b"", parcel(b"late", tags=("a",)), None)
        assert await here.blobs() == []
        env = environment(tmp_path, 8_000_000, print)
        with env.begin() as transaction:
            records, cuts = (transaction.stat(env.tables[name])["entries"] for name in (b"log", b"cuts"))
        assert 100 < records < 400
        assert cuts == records
        await here.store.put(KEY, b"", parcel(b"new", tags=("a",), born=here.log.position), None)
        assert await here.blobs() == [b"new"]


async def test_after_a_fork_the_child_opens_the_file_itself(tmp_path: Path) -> None:
    here = Here(tmp_path)
    async with here.running():
        await here.store.put(KEY, b"", parcel(), None)
        pid = os.fork()
        if pid == 0:
            os._exit(0 if _child_reads(here.store, tmp_path) else 1)
        _, ended = await asyncio.to_thread(os.waitpid, pid, 0)
        assert os.waitstatus_to_exitcode(ended) == 0
        assert await here.blobs() == [b"blob"]


def _child_reads(inherited: LocalStore, place: Path) -> bool:
    """In the child, where nothing of the parent's loop may be touched."""

    async def reads() -> bool:
        own = Here(place)
        async with own.running():
            return not inherited.current() and await own.blobs() == [b"blob"]

    with asyncio.Runner() as runner:
        asyncio._set_running_loop(None)
        return runner.run(reads())


async def test_two_caches_of_one_process_share_the_file(tmp_path: Path) -> None:
    one, other = Here(tmp_path, namespace="one"), Here(tmp_path, namespace="other")
    async with one.running(), other.running():
        assert environment(tmp_path, 1, print) is environment(tmp_path / ".." / tmp_path.name, 1, print)
        await one.store.put(KEY, b"", parcel(b"one"), None)
        assert (await one.blobs(), await other.blobs()) == ([b"one"], [])


# -- files that cannot be used ---------------------------------------------------------------------------------------


def garbage(place: Path) -> None:
    (place / FILE).write_bytes(b"no database " * 1_000)


def empty(place: Path) -> None:
    (place / FILE).write_bytes(b"")


def truncated(place: Path) -> None:
    async def write() -> None:
        here = Here(place)
        async with here.running():
            for number in range(200):
                await here.store.put(b"%d" % number, b"", parcel(b"x" * 5_000), None)

    with asyncio.Runner() as runner:
        runner.run(write())
    while place / FILE in _open:  # its thread is just ending; who still looks into what is cut off is killed for that
        gc.collect()
        time.sleep(0.01)
    with (place / FILE).open("r+b") as file:
        file.truncate(5_000)


def of_another_boot(place: Path) -> None:
    env = environment(place, 8_000_000, print)
    with env.begin(write=True) as transaction:
        transaction.put(b"boot", b"another", db=env.tables[b"meta"])


def of_something_else(place: Path) -> None:
    with lmdb.open(str(place / FILE), subdir=False) as made, made.begin(write=True) as transaction:
        transaction.put(b"meta", b"no table")
    (place / FILE).with_suffix(".position").touch()


def lost_by_others(place: Path) -> None:
    environment(place, 8_000_000, print).word[0] = GONE


def a_directory(place: Path) -> None:
    (place / FILE).mkdir()


@pytest.mark.parametrize(
    "damage", [garbage, truncated, of_another_boot, of_something_else, lost_by_others, a_directory]
)
def test_a_file_that_cannot_be_used_is_set_aside_with_an_event(
    damage: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_environment, "LOOK", 0.0)
    damage(tmp_path)

    async def use() -> None:
        here = Here(tmp_path)
        async with here.running():
            assert await here.blobs() == []
            await here.store.put(KEY, b"", parcel(), None)
            assert await here.blobs() == [b"blob"]
        assert len(here.reasons) == 1
        assert f"{FILE} was set aside" in here.reasons[0]

    with asyncio.Runner() as runner:
        runner.run(use())
    assert len(list(tmp_path.glob(f"{FILE}.aside-*"))) == 1


def test_an_empty_file_is_a_new_one(tmp_path: Path) -> None:
    empty(tmp_path)
    assert environment(tmp_path, 8_000_000, pytest.fail).word[0] == 0


def test_of_what_was_set_aside_the_newest_few_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_environment, "LOOK", 0.0)
    for _ in range(KEPT + 3):
        garbage(tmp_path)
        environment(tmp_path, 8_000_000, lambda _: None)
    assert len(list(tmp_path.glob(f"{FILE}.aside-*"))) == KEPT


async def test_a_row_that_cannot_be_read_is_not_found_and_can_be_replaced(tmp_path: Path) -> None:
    here = Here(tmp_path)
    async with here.running():
        await here.store.put(KEY, b"", parcel(), None)
        env = environment(tmp_path, 8_000_000, print)
        with env.begin(write=True) as transaction, transaction.cursor(db=env.tables[b"rows"]) as cursor:
            assert cursor.first()
            cursor.put(cursor.key(), b"\xff" * 7)
        assert await here.blobs() == []
        assert len(here.reasons) == 1
        await here.store.put(KEY, b"", parcel(b"again"), None)
        assert await here.blobs() == [b"again"]


async def test_what_lmdb_refuses_is_a_store_error_that_names_the_place(tmp_path: Path) -> None:
    here = Here(tmp_path)
    async with here.running():
        env = environment(tmp_path, 8_000_000, print)
        env.lmdb.close()
        for call in (here.store.fetch(Ask(key=KEY, fields={})), here.store.append(["a"])):
            with pytest.raises(StoreError, match=f"local://{tmp_path}: "):
                await call


async def test_a_store_that_is_not_open_says_so(tmp_path: Path) -> None:
    here = Here(tmp_path)
    with pytest.raises(StoreError, match="not open in this process"):
        await here.store.append(["a"])


@pytest.mark.parametrize("place", ["/proc/nowhere", "/dev/null"])
async def test_a_place_that_cannot_be_written_to_is_a_mistake(place: str) -> None:
    here = Here(Path(place))
    with pytest.raises(ConfigurationError, match=f"local://{place}: .* Give a directory"):
        async with here.running():
            pass


@pytest.mark.parametrize("name", ["tiercel-1.guard", "tiercel-1.position"])
async def test_a_place_of_which_a_file_cannot_be_written_to_is_a_mistake(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    here = Here(tmp_path)
    with pytest.raises(ConfigurationError, match=f"local://{tmp_path}: Is a directory: {name}. Give a directory"):
        async with here.running():
            pass


async def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    here = Here(tmp_path / "new" / "place")
    async with here.running():
        pass
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "new" / "place").iterdir()} == {0o600}
    assert (tmp_path / "new" / "place").stat().st_mode & 0o777 == 0o700


# -- room ------------------------------------------------------------------------------------------------------------


async def test_the_size_is_a_bound_and_the_oldest_go_first(tmp_path: Path) -> None:
    here = Here(tmp_path, size=1_000_000)
    async with here.running():
        for number in range(500):
            await here.store.put(b"%d" % number, b"", parcel(bytes(10_000)), None)
        there = [number for number in range(500) if await here.blobs(b"%d" % number)]
    assert 50 < len(there) <= 100
    assert there == list(range(500 - len(there), 500))
    assert (tmp_path / FILE).stat().st_size < 10_000_000


async def test_what_is_past_all_use_goes_before_what_is_not(tmp_path: Path) -> None:
    moment = [1_000.0]
    here = Here(tmp_path, size=1_000_000, now=lambda: moment[0])
    async with here.running():
        await here.store.put(KEY, b"", parcel(bytes(10_000), retain_for=600.0), None)
        for _ in range(10):
            for number in range(50):
                await here.store.put(b"%d" % number, b"", parcel(bytes(10_000), retain_for=1.0), None)
            moment[0] += 2.0
        assert await here.blobs() == [bytes(10_000)]


async def test_what_is_too_large_is_not_stored_and_pushes_nothing_out(tmp_path: Path) -> None:
    here = Here(tmp_path, size=1_000_000)
    async with here.running():
        await here.store.put(KEY, b"", parcel(), None)
        await here.store.put(b"large", b"", parcel(bytes(125_001)), None)
        assert (await here.blobs(), await here.blobs(b"large")) == ([b"blob"], [])


async def test_a_clock_that_is_set_back_makes_nothing_older_than_nothing(tmp_path: Path) -> None:
    moment = [1_000.0]
    here = Here(tmp_path, now=lambda: moment[0])
    async with here.running():
        await here.store.put(KEY, b"", parcel(), None)
        moment[0] -= 500.0
        assert (await here.store.fetch(Ask(key=KEY, fields={}))).kept[0].age == 0.0


def test_the_clock_is_one_for_all_processes() -> None:
    said = subprocess.run(
        [sys.executable, "-c", "from tiercel.stores._environment import *; print(since_boot(), boot_id())"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert abs(float(said[0]) - since_boot()) < 30.0
    assert said[1] == boot_id()
