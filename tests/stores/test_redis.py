"""A real Redis, and what becomes of it: frozen, killed, started again, emptied, full, guarded, failed over."""

import asyncio
import subprocess
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest
from proxy import proxy
from redis_server import Server, free_port, servers, watched

from tiercel._core.events import Event, Failed, Unreadable
from tiercel.errors import ConfigurationError, StoreError
from tiercel.spi import Ask, Cut, Found
from tiercel.stores import redis
from tiercel.stores.redis import AT_ONCE, DELTA, HELD, RedisStore
from tiercel.stores.redis._line import LIMIT, SILENCE, Line
from tiercel.stores.redis._places import Connection, Place, place
from tiercel.testing import RecordingLog
from tiercel.testing._contract import parcel

pytestmark = pytest.mark.realtime

KEY = b"key"
_numbers = count()


class Process:
    """One process's view of a store."""

    def __init__(self, url: str, namespace: str = "") -> None:
        self.store = RedisStore(url, namespace=namespace or f"{next(_numbers)}")
        self.log = RecordingLog()
        self.events: list[Event] = []

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        async with self.store.running(self.log, self.events.append):
            yield

    async def put(self, blob: bytes = b"blob", **more: object) -> None:
        await self.store.put(KEY, b"", parcel(blob, **{"born": self.log.position, **more}), None)

    async def blobs(self) -> list[bytes]:
        return [kept.parcel.blob for kept in (await self.found()).kept]

    async def found(self, lease: float = 0.0) -> Found:
        return await self.store.fetch(Ask(key=KEY, fields={}, lease=lease))

    @property
    def errors(self) -> list[str]:
        return [str(event.error) for event in self.events if isinstance(event, Failed)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    made = Server(Path(tmp_path_factory.mktemp("redis")))
    with servers([made]):
        yield made


@pytest.fixture
def server(tmp_path: Path) -> Generator[Server]:
    """One that the test may do with as it likes."""
    made = Server(tmp_path)
    with servers([made]):
        yield made


async def until(true: Callable[[], bool], within: float = 10.0) -> None:
    async with asyncio.timeout(within):
        while not true():  # noqa: ASYNC110 - it happens elsewhere
            await asyncio.sleep(0.005)


T = TypeVar("T")


async def answer(ask: Callable[[], Awaitable[T]], within: float = 10.0) -> T:
    """What is said, as soon as anything is."""
    deadline = time.monotonic() + within
    while True:
        try:
            return await ask()
        except StoreError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)


async def answered(process: Process, within: float = 10.0) -> list[bytes]:
    return await answer(process.blobs, within)


# -- what a server does well -----------------------------------------------------------------------------------------


async def test_a_cut_elsewhere_is_known_within_milliseconds_and_without_being_asked_for(shared: Server) -> None:
    one, other = Process(shared.url, "seen"), Process(shared.url, "seen")
    async with one.running(), other.running():
        took: list[float] = []
        for number in range(30):
            cut = await one.store.append([f"{number}"])
            began = time.monotonic()
            await until(lambda cut=cut: other.log.position >= cut)  # type: ignore[misc]
            took.append(time.monotonic() - began)
        assert sorted(took)[15] < BLOCK_FREE
        assert other.log.resets == 1
        assert other.store.current()


BLOCK_FREE = 0.1
"""Seconds: far less than the tail waits for a record that does not come."""


async def test_what_is_asked_in_one_turn_travels_together(shared: Server) -> None:
    one = Process(shared.url)
    async with one.running():
        before = int(_info(shared, "total_reads_processed"))
        await asyncio.gather(*[one.found() for _ in range(100)])
        assert int(_info(shared, "total_reads_processed")) - before < 30


async def test_clearing_is_one_record_however_much_there_is(shared: Server) -> None:
    one, other = Process(shared.url, "cleared"), Process(shared.url, "beside")
    async with one.running(), other.running():
        await one.put()
        await other.put()
        cut = await one.store.append([])
        assert (await one.blobs(), await other.blobs()) == ([], [b"blob"])
        assert one.log.cuts[-1].id == cut == 1


async def test_what_is_stored_leaves_the_server_with_its_lifetime(shared: Server) -> None:
    one = Process(shared.url, "brief")
    async with one.running():
        await one.put(retain_for=0.2, fresh_for=0.1)
        key = f"tiercel:{{brief:{KEY.hex()}}}"
        assert shared.ask("EXISTS", f"{key}:r", f"{key}:b") == b":2"
        await until(lambda: shared.ask("EXISTS", f"{key}:r", f"{key}:b") == b":0")


async def test_what_is_kept_for_long_is_kept_no_longer_than_cuts_are(shared: Server) -> None:
    one = Process(shared.url, "long")
    week = 7 * 86400.0
    async with one.running():
        await one.store.append(["early"])
        await one.put(retain_for=week, fresh_for=week, tags=("late",))
        await one.store.append(["late"])
        now = float(shared.lines("TIME")[0])
        lives = [float(shared.read("ZSCORE", "tiercel:{long}:ends", tag)) / 1000 - now for tag in ("early", "late")]
        assert lives[0] < week
        assert lives[1] > week
        assert await one.blobs() == []


async def test_a_lease_lasts_while_its_holder_lives_and_a_second_longer(shared: Server) -> None:
    one, other = Process(shared.url, "lease"), Process(shared.url, "lease")
    async with other.running():
        async with one.running():
            assert (await one.found(lease=30.0)).lease is not None
            await asyncio.sleep(2.0 * HELD)
            assert (await other.found(lease=30.0)).lease is None
        # As it would be, had it been killed: nothing is given back.
        left = int(shared.ask("PTTL", f"tiercel:{{lease:{KEY.hex()}}}:l:")[1:])
        assert left <= HELD * 1_000, "what it was asked for is thirty"
        while (await other.found(lease=30.0)).lease is None:  # noqa: ASYNC110 - it ends elsewhere
            await asyncio.sleep(0.02)


async def test_a_process_that_says_how_far_it_has_come_is_waited_for(shared: Server) -> None:
    one, other = Process(shared.url, "witness"), Process(shared.url, "witness")
    async with one.running(), other.running():
        cut = await one.store.append(["a"])
        assert len(await one.store.applied(cut, 5.0)) == 2
        assert other.log.position >= cut
        with pytest.raises(StoreError, match="did not apply cut 2 within"):
            await one.store.applied(cut + 1, 0.1)


async def test_many_tags_and_records_at_once_arrive_in_order(shared: Server) -> None:
    one, other = Process(shared.url, "many"), Process(shared.url, "many")
    async with one.running(), other.running():
        await asyncio.gather(*[one.store.append([f"{number}", "ü\0:5"]) for number in range(3 * AT_ONCE)])
        await until(lambda: other.log.position >= 3 * AT_ONCE)
        assert [cut.id for cut in other.log.cuts] == list(range(1, 3 * AT_ONCE + 1))
        assert all(cut.tags[1] == "ü\0:5" for cut in other.log.cuts)


async def test_where_a_new_log_has_begun_all_are_those_too_who_have_not_heard_of_it(shared: Server) -> None:
    async with proxy(shared.port) as way:
        one, other = Process(shared.url, "unheard"), Process(f"redis://127.0.0.1:{way.port}/0", "unheard")
        async with one.running(), other.running():
            way.lost = True
            shared.ask("DEL", "tiercel:{unheard}", "tiercel:{unheard}:processes")
            cut = await answer(lambda: one.store.append(["a"]))
            with pytest.raises(StoreError, match="whoever has not heard of the new log did not apply cut 1 within"):
                await one.store.applied(cut, 0.02)
            assert len(await one.store.applied(cut, 5.0)) == 1
            assert not other.store.current()


async def test_how_far_a_process_had_come_in_another_log_says_nothing(shared: Server) -> None:
    one, other = Process(shared.url, "former"), Process(shared.url, "former")
    async with one.running():
        async with other.running():
            for number in range(5):
                await one.store.append([f"{number}"])
            assert len(await one.store.applied(5, 5.0)) == 2
        shared.ask("DEL", "tiercel:{former}")
        cut = await answer(lambda: one.store.append(["a"]))
        assert len(await one.store.applied(cut, 5.0)) == 1


async def test_the_list_of_processes_is_not_for_a_server_to_evict_and_does_not_grow(shared: Server) -> None:
    one, other, there = Process(shared.url, "list"), Process(shared.url, "list"), "tiercel:{list}:processes"
    async with one.running():
        assert shared.ask("PTTL", there) == b":-1"
        shared.ask("HSET", there, "gone:1:a", "5 1", "garbage", "")
        assert len(await one.store.applied(0, 5.0)) == 1
        async with other.running():
            assert shared.ask("HLEN", there) == b":2"


async def test_a_machine_that_has_slept_does_not_trust_what_it_knew(
    shared: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, clock = Process(shared.url), redis._now
    assert getattr(clock, "args", ()) == ((time.CLOCK_BOOTTIME,) if hasattr(time, "CLOCK_BOOTTIME") else ())
    async with one.running():
        assert one.store.current()
        monkeypatch.setattr(redis, "_now", lambda: clock() + 2 * DELTA)
        assert not one.store.current()
        await until(one.store.current)


# -- garbage ---------------------------------------------------------------------------------------------------------


async def test_a_row_that_cannot_be_read_is_not_found_and_can_be_replaced(shared: Server) -> None:
    one = Process(shared.url, "garbage")
    async with one.running():
        await one.put()
        key = f"tiercel:{{garbage:{KEY.hex()}}}:r"
        for field, value in (("x", "\xff"), ("y", "")):
            shared.ask("HSET", key, field, value)
        assert await one.blobs() == [b"blob"]
        assert [event.reason for event in one.events if isinstance(event, Unreadable)] == ["damaged"]
        assert shared.ask("HLEN", key) == b":1"


_ROW = ["1", "epoch", "0", "0", "6e7", "6e7", "0", "{'a'}", "{'x-a', 'd', 'x-b', false}"]
"""What is stored of a variant."""


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, "2"),
        (0, "nil"),
        (1, "7"),
        (2, "'0'"),
        (2, "-1"),
        (2, "0/0"),
        (3, "{}"),
        (4, "1e17"),
        (5, "false"),
        (6, "true"),
        (7, "'a'"),
        (7, "{1}"),
        (7, "{false}"),
        (7, r"{'\255'}"),
        (8, "1"),
        (8, "{'x-a'}"),
        (8, "{'x-a', 1}"),
        (8, "{false, 'd'}"),
    ],
)
async def test_a_row_that_says_something_else_than_ours_is_not_found(shared: Server, place: int, value: str) -> None:
    one = Process(shared.url)
    key = one.store._shelf(KEY)
    async with one.running():
        row = [*_ROW[:1], f"'{one.store._epoch.decode()}'", *_ROW[2:3], shared.lines("TIME")[0] + "e6", *_ROW[4:]]

        async def found() -> list[bytes]:
            given = ", ".join(row)
            packed = (
                f"redis.call('HSET', KEYS[1], 'v', cmsgpack.pack({{{given}}})); redis.call('HSET', KEYS[2], 'v', 'x')"
            )
            assert shared.ask("EVAL", packed, "2", *[part.decode() for part in key]) == b"$-1"
            asked = Ask(key=KEY, fields={b"x-a": b"d"}, lease=1.0)
            return [kept.parcel.blob for kept in (await one.store.fetch(asked)).kept]

        assert await found() == [b"x"]
        assert one.events == []
        row[place] = value
        assert await found() == []
        assert [event.reason for event in one.events if isinstance(event, Unreadable)] == ["damaged"]
        await one.put(selecting=((b"x-a", b"d"), (b"x-b", None)))
        assert [kept.parcel.blob for kept in (await one.store.fetch(Ask(key=KEY, fields={b"x-a": b"d"}))).kept] == [
            b"blob"
        ]


async def test_a_key_of_another_type_is_an_error_and_not_an_answer(shared: Server) -> None:
    one = Process(shared.url, "foreign")
    async with one.running():
        shared.ask("SET", f"tiercel:{{foreign:{KEY.hex()}}}:r", "something else")
        with pytest.raises(StoreError, match="WRONGTYPE"):
            await one.blobs()
        await one.store.append(["a"])


# -- trouble ---------------------------------------------------------------------------------------------------------


async def test_nobody_answers_and_nothing_is_waited_for() -> None:
    one = Process(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(StoreError, match=r"redis://127.0.0.1:\d+/0: .*Connect"):
        async with one.running():
            pytest.fail("it is not open")


async def test_a_frozen_server_fences_memory_and_is_followed_again_when_it_is_back(server: Server) -> None:
    one, other = Process(server.url, "frozen"), Process(server.url, "frozen")
    async with one.running(), other.running():
        server.freeze()
        try:
            await asyncio.sleep(0.4)
            assert one.store.current()
            await until(lambda: not one.store.current(), within=DELTA + 0.5)
            with pytest.raises(StoreError, match=f"nothing was heard for {SILENCE} s"):
                await one.blobs()
        finally:
            server.thaw()
        await until(one.store.current)
        assert await answered(one) == []
        cut = await other.store.append(["a"])
        await until(lambda: one.log.position >= cut)
        assert one.log.resets == 1


async def test_a_connection_that_is_dead_without_a_word_is_given_up(shared: Server) -> None:
    async with proxy(shared.port) as way:
        one, other = Process(f"redis://127.0.0.1:{way.port}/0", "dead"), Process(shared.url, "dead")
        async with one.running(), other.running():
            way.lost = True
            await until(lambda: not one.store.current(), within=2 * DELTA)
            with pytest.raises(StoreError, match=f"nothing was heard for {SILENCE} s"):
                await one.blobs()
            cut = await other.store.append(["a"])
            way.lost = False
            await until(lambda: one.log.position >= cut)
            assert await answered(one) == []
            assert one.log.resets == 1


async def test_what_a_server_has_answered_in_whose_place_is_another_counts_for_nothing(
    server: Server, tmp_path: Path
) -> None:
    """Neither an invalidation that it has taken, nor a promise, nor what it has found."""
    next_one = Server(tmp_path / "next")
    with servers([next_one]):
        async with proxy(server.port) as way:
            one = Process(f"redis://127.0.0.1:{way.port}/0", "former")
            async with one.running():
                for number in range(9):
                    await one.store.append([f"{number}"])
                await one.put()
                token = await one.store.hold(["a"], 30.0)
                way.delays[1] = 1.0
                works = [
                    one.store.append(["a"]), one.store.release(token, ["a"]), one.store.hold(["a"], 30.0), one.found(),
                    one.put(retain_for=1e6), one.put(), one.store.applied(1, 5.0),
                ]  # fmt: skip
                asked = [asyncio.ensure_future(work) for work in works]
                await until(lambda: server.ask("HGET", "tiercel:{former}", "longest") == b"$10")
                way.there = next_one.port
                for client in _clients(server, "xread"):
                    server.ask("CLIENT", "KILL", "ID", client)
                await until(lambda: one.log.resets == 2)
                for work in asked:
                    with pytest.raises(StoreError, match="another log has begun before the answer came"):
                        await work
                assert one.log.cuts == []
                assert one.store._longest[1] == 86_400_000
                way.delays[1] = 0.0
                assert await answer(lambda: one.store.append(["a"])) == 1


async def test_an_answer_that_nobody_asked_for_costs_a_connection_and_no_more(shared: Server) -> None:
    async with proxy(shared.port) as way:
        one = Process(f"redis://127.0.0.1:{way.port}/0")
        async with one.running():
            way.say(b":1\r\n")
            await until(lambda: len(one.errors) >= 2)
            assert any("a connection is given up: StoreError: an answer came that nobody" in why for why in one.errors)
            assert any("the log cannot be followed" in why for why in one.errors)
            assert await answer(lambda: one.store.append(["a"])) == 1
            await until(one.store.current)


async def test_whatever_a_connection_fails_of_another_is_made(shared: Server) -> None:
    one = Process(shared.url)
    made, failing, failed = one.store._place.connection, [False], list[TypeError]()

    def connection() -> object:
        if failing[0]:
            failed.append(TypeError("an option"))
            raise failed[-1]
        return made()

    one.store._place = Place(connection)  # type: ignore[arg-type]
    async with one.running():
        failing[0] = True
        shared.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await until(lambda: len(failed) > 1)
        with pytest.raises(StoreError, match="an option"):
            await one.found()
        assert any("a connection is given up: TypeError: an option" in why for why in one.errors)
        failing[0] = False
        assert await answered(one) == []
        await until(one.store.current)


@pytest.mark.parametrize(
    ("said", "lost"),
    [
        ("READONLY You can't write against a read only replica.", 1),
        ("ERR Error running script (call to f_0): @user_script:1: -READONLY You can't write against", 1),  # 6.2
        ("ERR Error running script (call to f_0): @user_script:1: something else", 0),
    ],
)
async def test_a_primary_that_says_that_it_is_a_replica_by_now_is_left(shared: Server, said: str, lost: int) -> None:
    ended: list[Exception] = []

    async def greet(connection: Connection) -> None:
        await connection.on_connect()

    line = Line(place(shared.url, greet).connection, "there", ended.append)
    work = asyncio.create_task(line.run())
    try:
        before = await line.ask("CLIENT", "ID")
        with pytest.raises(StoreError, match="there: "):
            await line.ask("EVAL", "return redis.error_reply(ARGV[1])", 0, said)
        assert (await line.ask("CLIENT", "ID") == before) == (not lost)
        assert len(ended) == lost
    finally:
        work.cancel()
        await asyncio.wait([work])


async def test_the_scripts_are_loaded_at_once(shared: Server) -> None:
    async with proxy(shared.port) as way:
        way.delay = 0.1
        one = Process(f"redis://127.0.0.1:{way.port}/0")
        async with one.running():
            assert 2 <= way.answers <= 16, "on two connections, of which each takes more than a dozen scripts"


async def test_a_slow_server_is_followed_all_the_same(shared: Server) -> None:
    async with proxy(shared.port) as way:
        one, other = Process(f"redis://127.0.0.1:{way.port}/0", "slow"), Process(shared.url, "slow")
        async with one.running(), other.running():
            way.delay = 0.2
            await one.put()
            assert await other.blobs() == [b"blob"]
            for number in range(5):
                cut = await other.store.append([f"{number}"])
                await until(lambda cut=cut: one.log.position >= cut)  # type: ignore[misc]
                assert one.store.current()


async def test_connections_that_are_killed_lose_nothing(shared: Server) -> None:
    one, other = Process(shared.url, "killed"), Process(shared.url, "killed")
    async with one.running(), other.running():
        for number in range(5):
            await one.store.append([f"{number}"])
            shared.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await answered(one)
        await until(lambda: len(other.log.cuts) == 5)
        assert [cut.id for cut in other.log.cuts] == [1, 2, 3, 4, 5]
        assert one.log.resets == other.log.resets == 1


async def test_after_a_restart_nothing_is_taken_for_what_it_was_before(server: Server) -> None:
    """It came back empty; or with what it had written down, of which the end may be missing."""
    one = Process(server.url, "again")
    async with one.running():
        await one.put()
        assert await one.blobs() == [b"blob"]
        for _ in range(2):
            server.ask("SAVE")
            server.kill()
            server.start("--dbfilename", "dump.rdb")
            assert await answered(one) == []
            await one.put()
            assert await answered(one) == [b"blob"]
        await until(lambda: one.log.resets == 3)
        await until(one.store.current)


async def test_a_server_that_is_emptied_begins_anew(shared: Server) -> None:
    one, other = Process(shared.url, "emptied"), Process(shared.url, "emptied")
    async with one.running(), other.running():
        for number in range(3):
            await one.store.append([f"{number}"])
        await one.put()
        shared.ask("FLUSHALL")
        await until(lambda: one.log.resets == other.log.resets == 2)
        assert await answered(one) == []
        assert await answered(other) == []
        cut = await one.store.append(["a"])
        await until(lambda: other.log.position >= cut)
        assert cut == 1


async def test_of_a_log_that_was_trimmed_what_is_left_is_not_taken_for_all(shared: Server) -> None:
    one, other = Process(shared.url, "trimmed"), Process(shared.url, "trimmed")
    async with one.running(), other.running():
        other.store._position = 0  # as if it had been away
        for number in range(5):
            await one.store.append([f"{number}"])
        await until(lambda: other.log.position == 5)
    async with one.running():
        shared.ask("XTRIM", "tiercel:{trimmed}:log", "MAXLEN", "2")
        one.store._position = 0
        resets = one.log.resets
        await until(lambda: one.log.resets == resets + 1)
        assert one.log.position == 5


async def test_whoever_has_missed_a_part_of_the_log_is_told_what_is_held(shared: Server) -> None:
    one, other = Process(shared.url, "missed"), Process(shared.url, "missed")
    async with one.running(), other.running():
        over, token = await one.store.hold(["over"], 60.0), await one.store.hold(["a", "\udcff"], 60.0)
        await one.store.release(over, ["over"])
        for number in range(5):
            await one.store.append([f"{number}"])
        await until(lambda: other.log.position == 8)
        shared.ask("XTRIM", "tiercel:{missed}:log", "MAXLEN", "2")
        other.store._position = 0
        resets = other.log.resets
        await until(lambda: other.log.resets == resets + 1 and other.store.current())
        assert [cut for cut in other.log.cuts if cut.holds] == [Cut(id=2, tags=("a", "\udcff"), holds=True)]
        await one.store.release(token, ["a", "\udcff"])
        await until(lambda: bool(other.log.cuts[-1].releases))
        assert other.log.cuts[-1].releases == 2


async def test_a_log_that_has_gone_without_what_is_held_begins_after_it(shared: Server) -> None:
    """What is born in it comes after the hold, or it would never be usable."""
    one = Process(shared.url, "alone")
    async with one.running():
        for number in range(3):
            await one.store.append([f"{number}"])
        token = await one.store.hold(["a"], 60.0)
        shared.ask("DEL", "tiercel:{alone}")
        await until(lambda: one.log.resets == 2)
        assert one.log.cuts == [Cut(id=4, tags=("a",), holds=True)]
        assert one.log.position == 4
        await one.put(tags=("a",))
        assert await answered(one) == []
        assert await one.store.release(token, ["a"]) == 5
        await one.put()
        assert await answered(one) == [b"blob"]


async def test_what_is_held_while_the_holds_are_asked_for_is_not_forgotten(shared: Server) -> None:
    """By the process that holds it: the answer that came before it is asked for again."""
    one = Process(shared.url, "between")
    async with one.running():
        ask, asked = one.store._holds, list[int]()

        async def asks(connection: Any) -> Any:
            read = connection.read_response

            async def between() -> Any:
                answer = await read()
                asked.append(len(answer))
                if len(asked) == 1:
                    await one.store.hold(["a"], 60.0)
                return answer

            connection.read_response = between
            try:
                return await ask(connection)
            finally:
                del connection.read_response

        one.store._holds = asks  # type: ignore[method-assign]
        for number in range(3):
            await one.store.append([f"{number}"])
        shared.ask("XTRIM", "tiercel:{between}:log", "MAXLEN", "1")
        one.store._position = 0
        await until(lambda: one.log.resets == 2)
        assert asked == [0, 1]
        assert {cut.tags for cut in one.log.cuts if cut.holds} == {("a",)}


async def test_of_another_log_nothing_is_taken_for_what_this_one_holds(shared: Server) -> None:
    one = Process(shared.url, "another")
    async with one.running():
        ask = one.store._holds

        async def asks(connection: Any) -> Any:
            held = await ask(connection)
            one.store._epoch = b"another"
            return held

        one.store._holds = asks  # type: ignore[method-assign]
        for number in range(3):
            await one.store.append([f"{number}"])
        shared.ask("XTRIM", "tiercel:{another}:log", "MAXLEN", "1")
        one.store._position = 0
        await until(lambda: one.store._epoch != b"another" and one.log.resets == 2 and one.store.current())
        await one.store.append(["more"])
        assert one.log.resets == 2


async def test_a_full_server_refuses_what_is_new_and_still_gives_out_what_is_there(server: Server) -> None:
    one = Process(server.url, "full")
    async with one.running():
        await one.put()
        server.ask("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(StoreError, match="maxmemory"):
            await one.put(b"more")
        with pytest.raises(StoreError, match="maxmemory"):
            await one.store.append(["a"])
        assert await one.blobs() == [b"blob"]


async def test_a_full_server_fences_nobody_and_knows_how_far_they_have_come(server: Server) -> None:
    server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    one, other = Process(server.url, "fenced"), Process(server.url, "fenced")
    async with one.running(), other.running():
        await one.store.hold(["a"], DELTA)
        server.ask("CONFIG", "SET", "maxmemory", "1")
        full = one.store._asof
        await until(lambda: one.store._asof > full + DELTA and other.store._asof > full + DELTA)
        await until(lambda: one.log.position == 2)
        assert len(await one.store.applied(2, 5.0)) == 2


async def test_what_is_stored_long_after_it_was_cut_is_cut_although_the_cut_is_forgotten(shared: Server) -> None:
    one = Process(shared.url, "late")
    async with one.running():
        early = one.log.position
        cut = await one.store.append(["a"])
        shared.ask("ZADD", "tiercel:{late}:ends", "1", "a")  # as if its time had come
        await one.store.append(["b"])
        assert shared.ask("HEXISTS", "tiercel:{late}", "t:a") == b":0"
        await one.put(born=early, tags=("a",))
        assert await one.blobs() == []
        await one.put(born=cut, tags=("a",))
        assert await one.blobs() == [b"blob"]


async def test_cuts_are_not_evicted_before_what_they_hit(server: Server) -> None:
    server.ask("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
    server.ask("CONFIG", "SET", "maxmemory", "6mb")
    one = Process(server.url, "evicting")
    async with one.running():
        for number in range(1_000):
            given = parcel(b"x" * 200, tags=(f"{number}",), born=one.log.position)
            await one.store.put(b"%d" % number, b"", given, None)
            await one.store.append([f"{number}"])
        filled = 0
        while int(_info(server, "evicted_keys")) < 300:
            await one.store.put(b"more %d" % filled, b"", parcel(b"x" * 2_000, born=one.log.position), None)
            filled += 1
        for number in range(1_000):
            assert not (await one.store.fetch(Ask(key=b"%d" % number, fields={}))).kept


async def test_a_log_that_ends_before_what_is_known_of_it_is_another_one(shared: Server) -> None:
    """As of a primary that was a replica meanwhile, or behind a proxy: the same server, and no new connection."""
    one, other = Process(shared.url, "short"), Process(shared.url, "short")
    async with one.running(), other.running():
        await one.put(tags=("a",))
        for _ in range(3):
            await one.store.append(["a"])
        await until(lambda: other.log.position == 3)
        shared.ask("HSET", "tiercel:{short}", "head", "0")
        shared.ask("HDEL", "tiercel:{short}", "t:a")
        shared.ask("DEL", "tiercel:{short}:log")
        await until(lambda: one.log.resets == other.log.resets == 2)
        assert await answered(one) == []
        cut = await answer(lambda: one.store.append(["a"]))
        await until(lambda: other.log.position >= cut)


async def test_what_was_appended_to_a_log_that_is_gone_is_not_missed(shared: Server) -> None:
    one, other = Process(shared.url, "gone"), Process(shared.url, "gone")
    async with one.running(), other.running():
        await one.store.append(["a"])
        await until(lambda: other.log.position == 1)
        shared.ask("HSET", "tiercel:{gone}", "head", "5")
        shared.ask("DEL", "tiercel:{gone}:log")
        await until(lambda: one.log.resets == other.log.resets == 2)
        assert await answer(lambda: one.store.append(["a"])) == 6


async def test_where_the_epoch_is_lost_and_the_log_is_not_both_begin_anew(shared: Server) -> None:
    one = Process(shared.url, "half")
    async with one.running():
        for number in range(5):
            await one.store.append([f"{number}"])
        shared.ask("DEL", "tiercel:{half}")
        await until(lambda: one.log.resets == 2)
        assert await answer(lambda: one.store.append(["a"])) == 1
        await until(one.store.current)


async def test_a_record_of_another_shape_is_told_of_and_ends_nothing(shared: Server) -> None:
    one, other = Process(shared.url, "shape"), Process(shared.url, "shape")
    async with one.running():
        shared.ask("XADD", "tiercel:{shape}:log", "1-0", "what", "else")
        shared.ask("HSET", "tiercel:{shape}", "head", "1")
        await until(lambda: bool(one.errors))
        assert "the log cannot be followed" in one.errors[0]
        shared.ask("DEL", "tiercel:{shape}:log")
        await until(one.store.current)
        async with other.running():
            assert other.store.current()


async def test_a_server_that_may_evict_cuts_is_warned_of(server: Server) -> None:
    server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    one = Process(server.url)
    async with one.running():
        assert any("its policy allkeys-lru may evict the invalidations" in error for error in one.errors)


async def test_scripts_that_are_gone_are_loaded_again(shared: Server) -> None:
    one = Process(shared.url, "scripts")
    async with one.running():
        await one.put()
        shared.ask("SCRIPT", "FLUSH")
        assert await answered(one) == [b"blob"]
        await until(one.store.current)


async def test_a_replica_is_not_written_to(server: Server, tmp_path: Path) -> None:
    replica = Server(tmp_path / "replica", "--replicaof", "127.0.0.1", str(server.port))
    with servers([replica]):
        one = Process(replica.url)
        with pytest.raises(StoreError, match="read only replica"):
            async with one.running():
                pytest.fail("it is not open")


async def test_more_questions_than_can_wait_are_refused(server: Server) -> None:
    one = Process(server.url)
    async with one.running():
        server.freeze()
        try:
            asked = [asyncio.create_task(one.found()) for _ in range(LIMIT + 5)]
            await until(lambda: sum(task.done() for task in asked) >= 5)
            errors = [task.exception() for task in asked if task.done()]
            assert all("questions wait for an answer already" in str(error) for error in errors)
        finally:
            server.thaw()
        await asyncio.gather(*asked, return_exceptions=True)
        assert await answered(one) == []


# -- ways to a server ------------------------------------------------------------------------------------------------


async def test_a_user_of_its_own_needs_its_keys_only_and_a_wrong_password_is_not_shown(server: Server) -> None:
    server.ask("ACL", "SETUSER", "shop", "on", ">opensesame", "~tiercel:*", "+@all", "-@admin")
    good = Process(f"redis://shop:opensesame@127.0.0.1:{server.port}/0")
    async with good.running():
        await good.put(tags=("a",))
        assert await good.blobs() == [b"blob"]
        await good.store.append(["a"])
    bad = Process(f"redis://shop:letmein@127.0.0.1:{server.port}/0")
    with pytest.raises(StoreError, match=r"redis://\*\*\*@127.0.0.1:\d+/0: invalid username-password") as refused:
        async with bad.running():
            pytest.fail("it is not open")
    assert "letmein" not in str(refused.value)


async def test_a_unix_socket(tmp_path: Path) -> None:
    server = Server(tmp_path, "--unixsocket", str(tmp_path / "socket"))
    with servers([server]):
        one = Process(f"unix://{tmp_path}/socket?db=3")
        async with one.running():
            await one.put()
            assert await one.blobs() == [b"blob"]


async def test_tls(tmp_path: Path) -> None:
    made = ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    files = ["-keyout", f"{tmp_path}/key", "-out", f"{tmp_path}/certificate", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*made, *files], check=True, capture_output=True)  # noqa: ASYNC221 - a moment
    tls = free_port()
    given = ["--tls-port", str(tls), "--tls-cert-file", f"{tmp_path}/certificate", "--tls-key-file", f"{tmp_path}/key"]
    server = Server(tmp_path, *given, "--tls-ca-cert-file", f"{tmp_path}/certificate", "--tls-auth-clients", "no")
    with servers([server]):
        one = Process(f"rediss://127.0.0.1:{tls}/0?ssl_ca_certs={tmp_path}/certificate")
        async with one.running():
            await one.put()
            assert await one.blobs() == [b"blob"]
        stranger = Process(f"rediss://127.0.0.1:{tls}/0")
        with pytest.raises(StoreError, match="certificate verify failed"):
            async with stranger.running():
                pytest.fail("it is not open")


def test_a_url_that_cannot_be_read_is_an_error_without_its_password() -> None:
    for url in ("redis://:secret@host:port", "redis://u:pa/secret@host:1/0", "redis+cluster://u:p/secret@host:x"):
        with pytest.raises(ConfigurationError, match=r"://\*\*\*@host:\S+ cannot be read. Write ") as refused:
            RedisStore(url)
        assert "secret" not in str(refused.value)
        assert refused.value.__cause__ is None


def test_a_url_without_its_slashes_is_told_as_it_was_written() -> None:
    with pytest.raises(ConfigurationError, match=r"^redis:/localhost cannot be read"):
        RedisStore("redis:/localhost")
    with pytest.raises(ConfigurationError, match=r"^\*\*\*@localhost/0 cannot be read"):
        RedisStore("redis:/shop:secret@localhost/0")


async def test_a_sentinel_that_cannot_be_found_is_told_in_short() -> None:
    one = Process(f"redis+sentinel://127.0.0.1:{free_port()}/shop")
    with pytest.raises(StoreError, match=r"^redis\+sentinel://127.0.0.1:\d+/shop: No master found for 'shop'$"):
        async with one.running():
            pytest.fail("it is not open")


async def test_a_failover_is_a_new_log(tmp_path: Path) -> None:
    """Whatever the replica had not yet heard of."""
    primary, replica, watcher = watched(tmp_path)
    with servers([primary, replica, watcher]):
        one = Process(f"redis+sentinel://127.0.0.1:{watcher.port}/shop", "failover")
        other = Process(f"redis+sentinel://127.0.0.1:{watcher.port}/shop/0", "failover")
        await until(lambda: watcher.says("slaves=1", "INFO", "sentinel"), within=20)
        async with one.running(), other.running():
            await one.put(tags=("a",))
            assert await other.blobs() == [b"blob"]
            await until(lambda: replica.ask("EXISTS", f"tiercel:{{failover:{KEY.hex()}}}:b") == b":1")
            replica.freeze()
            await one.store.append(["a"])
            primary.kill()
            replica.thaw()
            assert await answered(other, within=30) == []
            await answer(lambda: one.store.append(["b"]))
            await until(lambda: one.store.current() and other.store.current())
            assert one.log.resets == other.log.resets == 2


def _pairs(line: str) -> dict[str, str]:
    return {name: value for name, _, value in (part.partition("=") for part in line.split())}


def _clients(server: Server, command: str) -> list[str]:
    """Ids of the connections that have asked for something last."""
    found = [_pairs(line) for line in server.read("CLIENT", "LIST").splitlines()]
    return [client["id"] for client in found if client["cmd"] == command]


def _info(server: Server, name: str) -> str:
    return server.read("INFO", "stats").partition(f"{name}:")[2].partition("\r\n")[0]
