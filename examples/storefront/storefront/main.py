"""The application factory: `uvicorn storefront.main:create_app --factory`."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.types import ASGIApp

from storefront import api, health, logs, problems
from storefront.middleware import around
from storefront.parts import Parts
from storefront.settings import Settings, settings_of_the_environment


def create_app(settings: Settings | None = None) -> ASGIApp:
    """Put one application together, with a database and a cache of its own; settings default to the environment."""
    logs.configure()
    return surrounded(Parts.made_for(settings or settings_of_the_environment()))


def surrounded(parts: Parts) -> ASGIApp:
    """Put an application together from its parts, and what stands around it."""
    return around(assembled(parts), parts.settings, parts.throttle)


def assembled(parts: Parts) -> FastAPI:
    """Put together what answers: routes, errors, cache."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        async with parts.open():
            yield

    app = FastAPI(title="Storefront", description="53,940 real diamonds, cached by Tiercel.", lifespan=lifespan)
    for version in (api.v1(parts), api.v2(parts)):
        app.include_router(version)
    app.include_router(health.router(parts))
    problems.install(app)
    parts.cache.install(app)
    return app
