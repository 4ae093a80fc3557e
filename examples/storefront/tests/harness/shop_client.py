"""Clients of the application under test, in this process."""

import asyncio
from collections.abc import AsyncGenerator, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from httpx import ASGITransport, AsyncClient, Response
from starlette.types import ASGIApp

from storefront.settings import Settings

BUSY = 5.0
"""Seconds that a store is waited for: other work on the machine must not fail a test."""


def sqlite(file: Path) -> Settings:
    """The settings of a test, which asks as often as it likes."""
    often = "1000000/second"
    return Settings(
        database_url=f"sqlite+aiosqlite:///{file}",
        environment="dev",
        uploads=file.parent / "uploads",
        allowed_hosts=("shop", "127.0.0.1"),
        cache_timeout=BUSY,
        rate=often,
        rate_search=often,
        rate_login=often,
        rate_user=often,
    )


def client_of(app: ASGIApp, version: str = "v1") -> AsyncClient:
    return AsyncClient(transport=ASGITransport(app), base_url=f"http://shop/api/{version}")


async def bearer(shop: AsyncClient, username: str, password: str) -> dict[str, str]:
    answer = await shop.post("/token", data={"username": username, "password": password})
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


def is_hit(answer: Response) -> bool:
    return answer.status_code == 200 and "; hit" in answer.headers.get("cache-status", "")


@asynccontextmanager
async def lifespan(app: ASGIApp) -> AsyncGenerator[None]:
    """Start and end an application as a server does: by the messages of ASGI."""
    told: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
    answers: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()

    async def run() -> None:
        await app({"type": "lifespan", "state": {}}, told.get, answers.put)

    running = asyncio.create_task(run())
    await told.put({"type": "lifespan.startup"})
    assert await answers.get() == {"type": "lifespan.startup.complete"}
    yield
    await told.put({"type": "lifespan.shutdown"})
    await running
