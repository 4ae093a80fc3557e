"""The application factory: `uvicorn storefront.main:create_app --factory`."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from storefront import api, problems
from storefront.parts import Parts
from storefront.settings import Settings, settings_of_the_environment


def create_app(settings: Settings | None = None) -> FastAPI:
    """Put one application together, with a database and a cache of its own; settings default to the environment."""
    return assembled(Parts.made_for(settings or settings_of_the_environment()))


def assembled(parts: Parts) -> FastAPI:
    """Put an application together from its parts."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        async with parts.open():
            yield

    app = FastAPI(title="Storefront", description="53,940 real diamonds, cached by Tiercel.", lifespan=lifespan)
    for version in (api.v1(parts), api.v2(parts)):
        app.include_router(version)
    problems.install(app)
    parts.cache.install(app)
    return app
