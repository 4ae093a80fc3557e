"""The storefront with its invalidation broken on purpose: what the load run has to find."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import ASGIApp

from storefront.main import create_app
from tiercel import Cache


def create() -> ASGIApp:
    """An application whose changes cut nothing, in this process."""

    def invalidates(_cache: Cache, *_tags: str) -> Callable[[Any], Any]:
        return lambda endpoint: endpoint

    @asynccontextmanager
    async def mutation(_cache: Cache, *_tags: str) -> AsyncGenerator[None]:
        yield

    Cache.invalidates = invalidates  # type: ignore[method-assign, assignment]
    Cache.mutation = mutation  # type: ignore[method-assign, assignment]
    return create_app()
