"""A service with a cache: what the tests of several processes serve."""

import asyncio
import fcntl
import os
import random
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from tiercel import Cache
from tiercel.errors import NotAcknowledged


def create_app() -> FastAPI:
    place = Path(os.environ["SERVICE_PLACE"])
    cache = Cache(os.environ["SERVICE_CACHE"], hard_timeout="5s", store_timeout=float(os.environ["SERVICE_PATIENCE"]))
    app = FastAPI()
    cache.install(app)

    def told(what: str) -> None:
        """Append a line to what the test reads."""
        with (place / "calls").open("a") as file:
            file.write(f"{what} {os.getpid()}\n")

    def version_of(key: str) -> int:
        file = place / key
        return int(file.read_text() or 0) if file.exists() else 0

    @app.get("/versions/{key}")
    @cache.response(ttl=3, stale_while_revalidate=2, tags="key:{key}")
    async def read_version(key: str) -> dict[str, int]:
        version = version_of(key)  # read at once: whatever changes from now on is not in the answer
        await asyncio.sleep(random.choice((0.0, 0.01, 0.1, 0.4)))
        return {"version": version}

    @app.post("/versions/{key}")
    async def write_version(key: str) -> dict[str, Any]:
        with (place / f"{key}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            version = version_of(key) + 1
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
        told(key)
        await asyncio.sleep(1.0)
        return {"key": key}

    @app.get("/ready")
    async def ready() -> int:
        return os.getpid()

    return app
