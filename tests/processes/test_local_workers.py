"""Real workers that share a file: one call for all, the death of whoever computes, and P."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from history import History
from running import BUSY, TAKES_OVER, service, until

WORKERS = 4

pytestmark = pytest.mark.realtime


async def test_a_thousand_at_once_want_a_cold_key_and_one_worker_computes_it(tmp_path: Path) -> None:
    async with service(f"local://{tmp_path}/cache", tmp_path, workers=WORKERS, patience=BUSY) as shop:
        answers = await asyncio.gather(*[shop.ask("/slow/cold") for _ in range(1_000)])
        assert {answer.status for answer in answers} == {200}
        assert len(shop.calls("cold")) == 1


async def test_who_is_killed_while_computing_costs_the_waiters_a_second_at_most(tmp_path: Path) -> None:
    async with service(f"local://{tmp_path}/cache", tmp_path, workers=WORKERS, patience=BUSY) as shop:
        asked = [asyncio.create_task(shop.ask("/doomed/cold")) for _ in range(200)]
        await until(lambda: bool(shop.calls("cold")))
        os.kill(shop.calls("cold")[0], signal.SIGKILL)
        killed = time.monotonic()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        answered = [answer for answer in answers if not isinstance(answer, BaseException)]
        assert all(isinstance(answer, ConnectionError) for answer in answers if isinstance(answer, BaseException))
        assert answered, "some wait in workers that live"
        assert {answer.status for answer in answered} == {200}
        _, second = shop.times("cold")
        assert second - killed < 1.0 + TAKES_OVER


async def test_no_worker_gives_out_what_another_has_invalidated_whoever_dies(tmp_path: Path) -> None:
    async with service(f"local://{tmp_path}/cache", tmp_path, workers=WORKERS, patience=BUSY) as shop:
        history = History([shop], delta=0.0)
        async with history.playing():
            for _ in range(3):
                await asyncio.sleep(2.0)
                os.kill(min(await shop.workers(1)), signal.SIGKILL)
            await asyncio.sleep(2.0)
        assert history.violations == []
        assert history.refused == 0


async def test_what_is_stored_outlives_the_service(tmp_path: Path) -> None:
    async with service(f"local://{tmp_path}/cache", tmp_path, workers=2, patience=BUSY) as shop:
        assert (await shop.ask("/slow/kept")).status == 200
    async with service(f"local://{tmp_path}/cache", tmp_path, workers=2, patience=BUSY) as shop:
        assert "; hit" in (await shop.ask("/slow/kept")).said
        assert len(shop.calls("kept")) == 1
