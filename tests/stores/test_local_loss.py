"""What a local store does about an end of room, what cannot be read, and what was asked for and given up."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from local_process import KEY, Here, Process, parcel

from tiercel.errors import StoreError
from tiercel.spi import Ask
from tiercel.stores import _environment, _ledger, local
from tiercel.stores import _rows as rows
from tiercel.stores._environment import environment
from tiercel.stores._shelves import VARIANTS

pytestmark = pytest.mark.realtime

SPACE = rows.space_of("test")


def pages(place: Path, *tables: bytes) -> int:
    env = environment(place, 1, print)
    with env.begin() as transaction:
        stats = [transaction.stat(env.tables[table]) for table in tables]
    return sum(stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"] for stat in stats)


# -- room ------------------------------------------------------------------------------------------------------------


async def test_the_log_is_bounded_in_bytes(tmp_path: Path) -> None:
    here = Here(tmp_path, size=1_000_000)
    async with here.running():
        for number in range(400):
            await here.store.append([f"product:{number}:{each}" for each in range(100)])
        taken = pages(tmp_path, b"log", b"cuts") * 4096
        assert 500_000 < taken < 1_100_000
        await here.store.put(KEY, b"", parcel(tags=("product:399:99",), born=here.log.position), None)
        assert await here.blobs() == [b"blob"]
        await here.store.append(["product:399:99"])
        assert await here.blobs() == []


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> None:
    """A map that is full soon."""
    monkeypatch.setattr(_environment, "SPARE", 16_000_000)


@pytest.mark.usefixtures("tight")
async def test_no_invalidation_is_refused_because_the_map_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_ledger, "LEAST", 1 << 40)  # it does not forget of itself
    here = Here(tmp_path, size=200_000)
    async with here.running():
        for number in range(1_200):
            await here.store.append([f"product:{number}:{each}" for each in range(number % 100)])
            await here.store.put(b"%d" % number, b"", parcel(bytes(number * 20)), None)
        assert here.store.current()


@pytest.mark.usefixtures("tight")
async def test_what_no_map_has_room_for_is_refused_and_the_next_is_not(tmp_path: Path) -> None:
    here = Here(tmp_path, size=200_000)
    async with here.running():
        with pytest.raises(StoreError, match="MAP_FULL"):
            await here.store.append([f"{number}" for number in range(400_000)])
        await here.store.append(["a"])
        assert here.store.current()


@pytest.mark.usefixtures("tight")
async def test_a_process_that_was_killed_while_it_read_keeps_no_room(
    tmp_path: Path, process: Callable[[], Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = await process().ready()
    here = Here(tmp_path, size=2_000_000)
    async with here.running():
        await here.store.put(b"first", b"", parcel(), None)
        await there.do("die_reading()")
        there.end()
        monkeypatch.setattr(local._Open, "_let_go", pytest.fail)
        for number in range(1_000):
            await here.store.put(b"%d" % number, b"", parcel(bytes(20_000)), None)


async def test_who_writes_looks_every_minute_for_processes_that_were_killed_while_they_read(
    tmp_path: Path, process: Callable[[], Process]
) -> None:
    moment = [1_000.0]
    there = await process().ready()
    here = Here(tmp_path, now=lambda: moment[0])
    async with here.running():
        await there.do("die_reading()")
        there.end(signal.SIGKILL)
        env = environment(tmp_path, 1, print)
        await here.store.append(["a"])
        assert str(there.pid) in env.lmdb.readers()
        moment[0] += local.CHECK
        await here.store.append(["a"])
        assert str(there.pid) not in env.lmdb.readers()


async def test_what_has_been_cut_leaves_its_place_to_other_variants(tmp_path: Path) -> None:
    here = Here(tmp_path)

    async def put(language: int, born: int) -> None:
        selecting = ((b"accept-language", b"%d" % language),)
        await here.store.put(KEY, b"", parcel(selecting=selecting, tags=("a",), born=born), None)

    async def is_kept(language: int) -> bool:
        fields = {b"accept-language": b"%d" % language}
        return bool((await here.store.fetch(Ask(key=KEY, fields=fields))).kept)

    async with here.running():
        for language in range(VARIANTS):
            await put(language, 0)
        await put(VARIANTS, 0)
        assert not await is_kept(VARIANTS)
        cut = await here.store.append(["a"])
        for language in range(VARIANTS):
            await put(language + 100, cut)
        assert await is_kept(100)
        assert await is_kept(100 + VARIANTS - 1)
        await put(VARIANTS, cut)
        assert not await is_kept(VARIANTS)
        env = environment(tmp_path, 1, print)
        with env.begin() as transaction:
            assert {transaction.stat(env.tables[name])["entries"] for name in (b"rows", b"ages", b"ends")} == {VARIANTS}


# -- what cannot be read ---------------------------------------------------------------------------------------------


def write(place: Path, table: bytes, key: bytes, data: bytes) -> None:
    env = environment(place, 1, print)
    with env.begin(write=True) as transaction:
        transaction.put(key, data, db=env.tables[table])


@pytest.mark.parametrize(
    "record", [b"\xff\xfe", b"[]", b"7", b'["a"]', b"[false, 7]", b"{}", b"[false", b'[false, "a"] and more']
)
async def test_a_record_of_the_log_that_cannot_be_read_is_a_loss_of_records(tmp_path: Path, record: bytes) -> None:
    here, other = Here(tmp_path), Here(tmp_path)
    async with here.running(), other.running():
        cut = await other.store.append(["a"])
        write(tmp_path, b"log", rows.number(cut), SPACE + record)
        assert here.store.current()
        assert (here.log.resets, here.log.cuts, here.log.position) == (2, [], cut)
        assert ["a record of the log" in reason for reason in here.reasons] == [True]
        await other.store.append(["b"])
        assert here.store.current()
        assert (here.log.resets, here.log.cuts[-1].tags) == (2, ("b",))


async def test_a_record_that_cannot_be_read_can_be_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ledger, "LEAST", 16_384)
    here = Here(tmp_path, size=100_000)
    async with here.running():
        cut = await here.store.append(["a"])
        write(tmp_path, b"log", rows.number(cut), b"garbage")
        for number in range(500):
            await here.store.append([f"{number}"])
        assert pages(tmp_path, b"log", b"cuts") <= 5
        assert ["a record of the log" in reason for reason in here.reasons] == [True]


async def test_a_cut_that_cannot_be_read_cuts_all_that_was_born_before_now(tmp_path: Path) -> None:
    here = Here(tmp_path)
    async with here.running():
        await here.store.put(KEY, b"", parcel(tags=("a",), born=here.log.position), None)
        await here.store.append(["b"])
        assert await here.blobs() == [b"blob"]
        write(tmp_path, b"cuts", rows.tag_key(SPACE, "a"), b"garbage")
        assert await here.blobs() == []
        assert "a cut: " in here.reasons[0]
        await here.store.put(KEY, b"", parcel(b"new", tags=("a",), born=here.log.position), None)
        assert await here.blobs() == [b"new"]
        await here.store.append(["a"])
        assert await here.blobs() == []


async def test_a_lease_that_cannot_be_read_is_nobodys(tmp_path: Path) -> None:
    here = Here(tmp_path)
    ask = Ask(key=KEY, fields={}, lease=60.0)
    async with here.running():
        write(tmp_path, b"leases", rows.lane_key(SPACE, KEY, b""), b"garbage")
        found = await here.store.fetch(ask)
        assert found.lease is not None
        assert (await here.store.fetch(ask)).lease is None
        await here.store.put(KEY, b"", None, found.lease)
        assert (await here.store.fetch(ask)).lease is not None


@pytest.mark.parametrize("token", [rows.moment(1.0) + b"token", b"\x00"])
async def test_a_promise_that_cannot_be_read_cuts_everything(tmp_path: Path, token: bytes) -> None:
    here = Here(tmp_path)
    async with here.running():
        await here.store.put(KEY, b"", parcel(born=here.log.position), None)
        write(tmp_path, b"holds", token, SPACE + b"garbage")
        await here.store.hold(["a"], 60.0)
        assert await here.blobs() == []
        assert here.store.current()
        assert here.log.cuts[-1].tags == ()
        assert "a promise" in here.reasons[0]


async def test_a_promise_that_cannot_be_read_holds_everything_until_it_is_due(tmp_path: Path) -> None:
    here, late = Here(tmp_path), Here(tmp_path)
    async with here.running():
        await here.store.put(KEY, b"", parcel(born=here.log.position), None)
        assert await here.blobs() == [b"blob"]
        write(tmp_path, b"holds", rows.moment(1e9) + b"token", SPACE + b"garbage")
        assert [await here.blobs() for _ in range(3)] == [[]] * 3
        assert len(here.reasons) == 1, "it is said once"
        assert "a promise, so that nothing is found" in here.reasons[0]
        async with late.running():
            assert late.log.cuts == []
        write(tmp_path, b"holds", rows.moment(1e9 + 1) + b"token", b"x" * 16 + b"garbage")
        assert len(here.reasons) == 1, "another namespace's"


async def test_a_process_that_cannot_be_read_is_not_there(tmp_path: Path) -> None:
    here = Here(tmp_path)
    async with here.running():
        write(tmp_path, b"peers", SPACE + b"x", b"garbage")
        assert [name.rpartition(":")[2] for name in await here.store.applied(0, 1.0)] == [str(os.getpid())]


async def test_a_count_that_cannot_be_read_is_a_store_error_that_is_said_once(tmp_path: Path) -> None:
    here = Here(tmp_path)
    async with here.running():
        write(tmp_path, b"meta", b"position", b"garbage")
        environment(tmp_path, 1, print).word[0] += 1
        for _ in range(3):
            assert not here.store.current()
        assert len(here.failures) == 1
        for asked in (here.store.fetch(Ask(key=KEY, fields={}, lease=1.0)), here.store.append(["a"])):
            with pytest.raises(StoreError):
                await asked
        with pytest.raises(StoreError):
            async with Here(tmp_path).running():
                pass


@pytest.mark.parametrize("tags", [b"7", b"[7]", b"{}"])
async def test_tags_that_cannot_be_read_make_a_row_that_cannot(tmp_path: Path, tags: bytes) -> None:
    row = rows.to_row(rows.Row(1, 0.0, parcel(tags=("abc",))))
    with pytest.raises(rows.UNREADABLE):
        rows.of_row(row.replace(b'["abc"]', tags.ljust(7)))


# -- given up --------------------------------------------------------------------------------------------------------


class Another:
    """Another writer, that takes its time."""

    def __init__(self, place: Path) -> None:
        self._begun, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, args=(environment(place, 1, print),))

    def _work(self, env: Any) -> None:
        with env.lmdb.begin(write=True):
            self._begun.set()
            self._over.wait(20)

    def __enter__(self) -> None:
        self._thread.start()
        self._begun.wait()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


ASK = Ask(key=KEY, fields={}, lease=60.0)


async def test_a_lease_that_is_granted_when_nobody_wants_it_any_more_is_given_back(tmp_path: Path) -> None:
    here = Here(tmp_path)
    async with here.running():
        with Another(tmp_path):
            asking = [asyncio.create_task(here.store.fetch(ASK)) for _ in range(2)]
            await asyncio.sleep(0.05)  # the first waits for the other writer, the second for the first
            for one in asking:
                one.cancel()
            await asyncio.wait(asking)
        await here.store.put(b"other", b"", None, None)  # behind what was begun
        assert (await here.store.fetch(ASK)).lease is not None
        assert here.events == []


async def test_what_is_given_up_and_is_not_granted_needs_no_giving_back(tmp_path: Path) -> None:
    here = Here(tmp_path)
    async with here.running():
        with Another(tmp_path):
            putting = asyncio.create_task(here.store.put(KEY, b"", parcel(), None))
            asking = asyncio.create_task(here.store.fetch(ASK))
            await asyncio.sleep(0.05)
            opened = here.store._open
            assert opened is not None
            failing = opened.writer.submit(opened.release, b"", ())  # an empty key is none
            opened.writer.submit(opened.take_back, failing, ASK)  # type: ignore[arg-type]
        await putting
        assert (await asking).lease is None
        assert failing.exception() is not None
        asking = asyncio.create_task(here.store.fetch(ASK))
        await asyncio.wait([asking])
        assert await here.blobs() == [b"blob"]
        assert here.events == []


async def test_what_is_given_up_while_the_store_is_closed_is_given_up(tmp_path: Path) -> None:
    here = Here(tmp_path)
    async with here.running():
        with Another(tmp_path):
            asking = asyncio.create_task(here.store.fetch(ASK))
            await asyncio.sleep(0.05)
            assert here.store._open is not None
            here.store._open.writer.shutdown(wait=False)
            asking.cancel()
            await asyncio.wait([asking])
            assert asking.cancelled()
            here.store._open.writer = ThreadPoolExecutor(1)


async def test_what_is_held_is_released_in_time_also_if_nobody_asks(tmp_path: Path) -> None:
    here = Here(tmp_path)
    async with here.running():
        await here.store.hold(["a"], 0.05)
        hold = here.log.cuts[-1].id
        async with asyncio.timeout(10):
            while here.log.cuts[-1].releases != hold:  # noqa: ASYNC110 - nobody says when
                await asyncio.sleep(0.01)
