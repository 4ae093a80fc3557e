"""The application factory: `uvicorn storefront.main:create_app --factory`."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.types import ASGIApp

import storefront.graphql.routes
import storefront.reference.routes
from storefront import api, health, logs, metrics, problems
from storefront.graphql.persisted import Canonical
from storefront.metrics import Measured
from storefront.middleware import around
from storefront.parts import Parts
from storefront.reference import document
from storefront.settings import Settings, settings_of_the_environment

DESCRIPTION = """\
What has gone wrong is a problem, RFC 9457. What may be kept carries an `ETag`: send it back in `If-None-Match`, and
what has not changed is a `304`. `Cache-Status` says what the cache did. A change is seen by the next `GET`, whoever
sends it.
"""

TAGS = [
    {"name": "catalogue", "description": "Diamonds: to find, to count, and, with the scope products:write, to change."},
    {"name": "accounts", "description": "Login by the OAuth2 password flow; what users may do."},
    {"name": "orders", "description": "What you have bought. Errors are problem details, RFC 9457, as everywhere."},
    {"name": "reviews", "description": "What customers say of a product."},
    {
        "name": "files",
        "description": "Pictures and documents of a product: to read, and, with the scope products:write, to change.",
    },
    {"name": "exports", "description": "The whole catalogue, or what passes the filters, in one file."},
    {
        "name": "live",
        "description": "The stock as it changes: by server-sent events here, and by WebSocket at /live/stock.",
    },
    {"name": "currencies", "description": "Prices by the rates of a bank."},
    {"name": "graphql", "description": "The catalogue as a graph. Persisted queries go by GET, and are cached."},
    {"name": "operations", "description": "For whoever starts and stops this."},
]


def operation_id(route: APIRoute) -> str:
    """Name an operation as its function, and by its version: what clients that are generated call it."""
    version = route.path.split("/")[2] if route.path.startswith("/api/") else ""
    return "_".join(part for part in (version, route.name) if part)


def create_app(settings: Settings | None = None) -> ASGIApp:
    """Put one application together, with a database and a cache of its own; settings default to the environment."""
    logs.configure()
    return surrounded(Parts.made_for(settings or settings_of_the_environment()))


def surrounded(parts: Parts) -> ASGIApp:
    """Put an application together from its parts, and what stands around it."""
    app = assembled(parts)
    inside = Canonical(app, parts.graph.persisted)
    return Measured(around(inside, parts.settings, parts.throttle), parts.metrics, app.routes)


def assembled(parts: Parts) -> FastAPI:
    """Put together what answers: routes, errors, cache."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        async with parts.open():
            yield

    in_production = parts.settings.environment == "production"
    app = FastAPI(
        title="Storefront",
        summary="53,940 real diamonds, cached by Tiercel.",
        version="2",
        description=DESCRIPTION,
        license_info={"name": "MIT", "identifier": "MIT"},
        servers=[{"url": "/", "description": "The host that this document came from."}],
        docs_url=None,
        redoc_url=None,
        openapi_tags=TAGS,
        # In production nobody is told more than they need; the documents are made where the program is built.
        openapi_url=None if in_production else "/openapi.json",
        generate_unique_id_function=operation_id,
        lifespan=lifespan,
    )
    for version in (api.v1(parts), api.v2(parts)):
        app.include_router(version)
    app.include_router(storefront.graphql.routes.router(parts))
    app.include_router(health.router(parts))
    app.include_router(metrics.router(parts.metrics, parts.settings))
    if not in_production:
        app.include_router(storefront.reference.routes.router(parts))
        document.install(app)
    problems.install(app)
    parts.cache.install(app, shadow=parts.settings.cache_shadow)
    return app
