"""`CacheDep`: the cache that is installed on the application, as a dependency."""

from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from tiercel.cache import Cache
from tiercel.errors import ConfigurationError

CACHE = "tiercel.cache"
"""Where in the scope the cache is found, in mounted applications, too."""


async def installed_cache(connection: HTTPConnection) -> Cache:
    """Find the cache of the application that answers.

    Raises:
        ConfigurationError: None is installed.
    """
    cache: Cache | None = connection.scope.get(CACHE)
    if cache is None:
        raise ConfigurationError(
            f"CacheDep found no cache for {connection.scope['path']}: none is installed on the application. "
            "Install one before it starts: cache.install(app)."
        )
    return cache


CacheDep = Annotated[Cache, Depends(installed_cache)]
"""The cache that is installed on the application, or on the one that it is mounted in; injected.

Raises:
    ConfigurationError: At the request, where none is installed.

Example:
    >>> from fastapi import FastAPI
    >>> from tiercel.fastapi import CacheDep
    >>> app = FastAPI()
    >>> @app.post("/rates")
    ... async def set_rates(cache: CacheDep) -> None:
    ...     await cache.invalidate("rates")
"""
