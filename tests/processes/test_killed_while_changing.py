"""A worker that is killed between its commit and the cut: the others never give out what was there before."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis_server import Server, servers
from running import Answer, Service, service, until

from tiercel.stores.redis import DELTA

pytestmark = pytest.mark.realtime

WORKERS = 3


@pytest.fixture(params=["local", "redis"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, float]]:
    """A cache of several processes, and the seconds after which they know what one of them does."""
    if request.param == "local":
        yield f"local://{tmp_path}/cache", 0.0
    else:
        server = Server(tmp_path / "redis")
        with servers([server]):
            yield server.url, DELTA


async def test_nobody_gets_what_was_there_before_the_commit_of_a_process_that_was_killed(
    shared: tuple[str, float], tmp_path: Path
) -> None:
    url, delta = shared
    async with service(url, tmp_path, workers=WORKERS, patience=1.0) as shop:
        hits = 0
        while hits < 4 * WORKERS:
            hits += "; hit" in (await _read(shop)).said
        dying = asyncio.create_task(shop.ask("/killed/a", "POST"))
        await until((tmp_path / "held").exists)
        before = await asyncio.gather(*[_read(shop) for _ in range(10)])
        assert 0 in {answer.body["version"] for answer in before}, "who asked the one that dies asks again after it"
        with pytest.raises(ConnectionError):
            await dying
        committed = time.monotonic()
        await asyncio.sleep(delta)
        held = await asyncio.gather(*[_read(shop) for _ in range(10)])
        while time.monotonic() < committed + 3.0:
            held += [await _read(shop)]
        assert {answer.body["version"] for answer in held} == {1}
        assert not [answer.said for answer in held if "; hit" in answer.said or "stored" in answer.said]
        while "; hit" not in (answer := await _read(shop)).said:  # the store has ended what was begun
            assert time.monotonic() < committed + 20.0
        assert answer.body["version"] == 1


async def _read(shop: Service) -> Answer:
    """Again where the worker that was asked is the one that was killed."""
    while True:
        try:
            return await shop.ask("/kept/a")
        except ConnectionError:
            await asyncio.sleep(0.01)
