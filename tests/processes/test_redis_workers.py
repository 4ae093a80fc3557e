"""Real workers of two services on one Redis: one call for all, and P, whatever becomes of the server."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from history import History
from redis_cluster import cluster_of, holder, make, moved, url_of
from redis_server import Server, servers, watched
from running import BUSY, TAKES_OVER, Service, service, until

from tiercel.stores.redis import DELTA, HELD

pytestmark = pytest.mark.realtime


@pytest.fixture
def server(tmp_path: Path) -> Generator[Server]:
    made = Server(tmp_path / "redis")
    with servers([made]):
        yield made


@asynccontextmanager
async def two(server: Server, place: Path, *, patience: float = 0.05) -> AsyncGenerator[tuple[Service, Service]]:
    """Two services with two workers each: as on two hosts."""
    async with (
        service(server.url, place, workers=2, patience=patience) as one,
        service(server.url, place, workers=2, patience=patience) as other,
    ):
        yield one, other


async def test_a_thousand_at_once_want_a_cold_key_and_one_worker_computes_it(server: Server, tmp_path: Path) -> None:
    async with two(server, tmp_path, patience=BUSY) as shops:
        answers = await asyncio.gather(*[shop.ask("/slow/cold") for shop in shops for _ in range(500)])
        assert {answer.status for answer in answers} == {200}
        assert len(shops[0].calls("cold")) == 1


async def test_who_is_killed_while_computing_costs_the_waiters_a_second_at_most(server: Server, tmp_path: Path) -> None:
    async with two(server, tmp_path, patience=BUSY) as shops:
        asked = [asyncio.create_task(shop.ask("/doomed/cold")) for shop in shops for _ in range(100)]
        await until(lambda: bool(shops[0].calls("cold")))
        os.kill(shops[0].calls("cold")[0], signal.SIGKILL)
        killed = time.monotonic()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        answered = [answer for answer in answers if not isinstance(answer, BaseException)]
        assert answered, "some wait in workers that live"
        assert {answer.status for answer in answered} == {200}
        _, second = shops[0].times("cold")
        assert second - killed < HELD + TAKES_OVER


async def test_no_service_gives_out_what_another_has_invalidated_while_slots_move(tmp_path: Path) -> None:
    primaries = [make(tmp_path / f"{number}") for number in range(3)]
    with servers(primaries):
        await asyncio.to_thread(cluster_of, primaries, [])
        url = url_of(primaries)
        async with service(url, tmp_path, workers=2) as one, service(url, tmp_path, workers=2) as other:
            history = History([one, other], delta=DELTA + 0.1)
            async with history.playing():
                await asyncio.sleep(2.5)
                for name in ("tiercel:{tiercel}", await _name_of_a_key(primaries), "tiercel:{tiercel}"):
                    source = holder(primaries, name)
                    target = primaries[(primaries.index(source) + 1) % 3]
                    await asyncio.to_thread(moved, source, target, name)
                    await asyncio.sleep(2.5)
            assert history.violations == []


async def _name_of_a_key(primaries: list[Server]) -> str:
    found: list[str] = []
    while not found:
        await asyncio.sleep(0.05)
        there = [name for server in primaries for name in server.lines("KEYS", "tiercel:{tiercel:*")]
        found = [name for name in there if ":l:" not in name]
    return found[0]


async def test_no_service_gives_out_what_another_has_invalidated_when_a_replica_takes_over(tmp_path: Path) -> None:
    """One that lacks the end of the log."""
    primary, replica, watcher = watched(tmp_path / "servers")
    with servers([primary, replica, watcher]):
        await until(lambda: watcher.says("slaves=1", "INFO", "sentinel"))
        await until(lambda: replica.says("master_link_status:up", "INFO", "replication"))
        url = f"redis+sentinel://127.0.0.1:{watcher.port}/shop"
        async with service(url, tmp_path, workers=2) as one, service(url, tmp_path, workers=2) as other:
            history = History([one, other], delta=DELTA + 0.1)
            async with history.playing():
                await asyncio.sleep(3.0)
                replica.freeze()
                await asyncio.sleep(0.5)
                primary.kill()
                replica.thaw()
                await until(lambda: replica.says("role:master", "INFO", "replication"))
                await asyncio.sleep(4.0)
            assert history.violations == []


async def test_no_service_gives_out_what_another_has_invalidated_whatever_becomes_of_the_server(
    server: Server, tmp_path: Path
) -> None:
    async with two(server, tmp_path) as shops:
        history = History(shops, delta=DELTA + 0.1)
        async with history.playing():
            await asyncio.sleep(1.5)
            for _ in range(3):
                server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                await asyncio.sleep(0.5)
            server.freeze()
            await asyncio.sleep(3.0)
            server.thaw()
            await asyncio.sleep(2.0)
            os.kill(min(await shops[0].workers(1)), signal.SIGKILL)
            await asyncio.sleep(2.0)
            server.kill()
            await asyncio.sleep(1.0)
            server.start()
            await asyncio.sleep(2.0)
            server.ask("FLUSHALL")
            await asyncio.sleep(2.0)
        assert history.violations == []
        assert history.refused > 0
