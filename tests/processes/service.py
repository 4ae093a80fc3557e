"""A service with a cache: what the tests of several processes serve."""

import asyncio
import fcntl
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from tiercel import Cache
from tiercel._engine import telling
from tiercel.errors import NotAcknowledged


def told(place: Path, what: str) -> int:
    """Append a line to what the test reads; how many there are of this."""
    with (place / "calls").open("a+") as file:
        file.write(f"{what} {os.getpid()} {time.monotonic()}\n")
        file.seek(0)
        return sum(line.startswith(f"{what} ") for line in file)


def version_of(file: Path) -> int:
    return int(file.read_text() or 0) if file.exists() else 0


def create_app() -> FastAPI:
    telling.HELD = 4.0  # type: ignore[misc]  # in this process, so that a test can wait for its end
    place = Path(os.environ["SERVICE_PLACE"])
    patience = float(os.environ["SERVICE_PATIENCE"])
    cache = Cache(os.environ["SERVICE_CACHE"], hard_timeout=100 * patience, store_timeout=patience)
    app = FastAPI()
    cache.install(app)

    @app.get("/versions/{key}")
    @cache.response(ttl=3, stale_while_revalidate=2, tags="key:{key}")
    async def read_version(key: str) -> dict[str, int]:
        version = version_of(place / key)  # read at once: whatever changes from now on is not in the answer
        await asyncio.sleep(random.choice((0.0, 0.01, 0.1, 0.4)))
        return {"version": version}

    @app.post("/versions/{key}")
    async def write_version(key: str) -> dict[str, Any]:
        with (place / f"{key}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            version = version_of(place / key) + 1
            new = place / f"{key}.{version}"
            new.write_text(str(version))
            new.rename(place / key)
        try:
            await cache.invalidate(f"key:{key}")
        except NotAcknowledged:
            return {"version": version, "acknowledged": False}
        return {"version": version, "acknowledged": True}

    @app.get("/slow/{key}")
    @cache.response(ttl=60)
    async def read_slowly(key: str) -> dict[str, str]:
        told(place, key)
        await asyncio.sleep(1.0)
        return {"key": key}

    @app.get("/doomed/{key}")
    @cache.response(ttl=60)
    async def read_until_killed(key: str) -> dict[str, str]:
        """The first who computes it does not end."""
        if told(place, key) == 1:
            await asyncio.Event().wait()
        return {"key": key}

    @app.get("/ready")
    async def ready() -> int:
        return os.getpid()

    _add_changes(app, cache, place)
    return app


def _add_changes(app: FastAPI, cache: Cache, place: Path) -> None:
    @app.get("/kept/{key}")
    @cache.response(ttl=600, stale_while_revalidate=600, stale_if_error=600, tags="key:{key}")
    async def read_kept(key: str) -> dict[str, int]:
        version = version_of(place / key)
        await asyncio.sleep(0.1)
        return {"version": version}

    @app.post("/killed/{key}")
    async def change_and_die(key: str) -> None:
        async with cache.mutation(f"key:{key}"):
            (place / "held").touch()
            await asyncio.sleep(0.5)
            (place / "new").write_text("1")
            (place / "new").rename(place / key)
            os.kill(os.getpid(), signal.SIGKILL)
