"""Real workers that share a file: one call for all, the death of whoever computes, and P."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from history import History
from running import service, until

WORKERS = 4
BUSY = 0.5
"""Seconds to wait for the store where a thousand clients of our own keep the machine busy."""

pytestmark = [pytest.mark.realtime, pytest.mark.timeout(120)]


async def test_a_thousand_at_once_want_a_cold_key_and_one_worker_computes_it(tmp_path: Path) -> None:
    async with service(f"local://{tmp_path}/cache", tmp_path, workers=WORKERS, patience=BUSY) as shop:
        answers = await asyncio.gather(*[shop.ask("/slow/cold") for _ in range(1_000)])
        assert {answer.status for answer in answers} == {200}
        assert len(shop.calls("cold")) == 1


async def test_who_is_killed_while_computing_costs_the_waiters_a_second_at_most(tmp_path: Path) -> None:
    async with service(f"local://{tmp_path}/cache", tmp_path, workers=WORKERS) as shop:
        asked = [asyncio.create_task(shop.ask("/slow/cold")) for _ in range(200)]
        await until(lambda: bool(shop.calls("cold")))
        await asyncio.sleep(0.3)
        os.kill(shop.calls("cold")[0], signal.SIGKILL)
        killed = time.monotonic()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        waited = time.monotonic() - killed
        answered = [answer for answer in answers if not isinstance(answer, BaseException)]
        assert all(isinstance(answer, ConnectionError) for answer in answers if isinstance(answer, BaseException))
        assert answered, "some wait in workers that live"
        assert {answer.status for answer in answered} == {200}
        assert len(shop.calls("cold")) == 2
        assert waited < 1.0 + 1.0, "a second until somebody else computes it, which takes a second"


async def test_no_worker_gives_out_what_another_has_invalidated_whoever_dies(tmp_path: Path) -> None:
    async with service(f"local://{tmp_path}/cache", tmp_path, workers=WORKERS) as shop:
        history = History([shop], delta=0.0)
        playing = asyncio.create_task(history.played(8.0))
        for _ in range(3):
            await asyncio.sleep(2.0)
            os.kill(min(await shop.workers(1)), signal.SIGKILL)
        await playing
        assert history.violations == []
        assert history.reads > 500
        assert history.hits > 100
        assert history.refused == 0


async def test_what_is_stored_outlives_the_service(tmp_path: Path) -> None:
    async with service(f"local://{tmp_path}/cache", tmp_path, workers=2) as shop:
        assert (await shop.ask("/slow/kept")).status == 200
    async with service(f"local://{tmp_path}/cache", tmp_path, workers=2) as shop:
        assert "; hit" in (await shop.ask("/slow/kept")).said
        assert len(shop.calls("kept")) == 1
