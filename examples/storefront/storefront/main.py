"""The application factory: `uvicorn storefront.main:create_app --factory`."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI

import storefront.accounts.routes
import storefront.catalogue.routes
from storefront import problems
from storefront.accounts.guard import guard
from storefront.accounts.passwords import Passwords
from storefront.accounts.service import Accounts
from storefront.accounts.tokens import Tokens
from storefront.database import Database
from storefront.settings import Settings
from tiercel import Cache


def create_app(settings: Settings | None = None) -> FastAPI:
    """Put one application together, with a database and a cache of its own; settings default to the environment."""
    settings = settings or Settings()
    database = Database(settings.database_url)
    cache = Cache(settings.cache_url)
    tokens = Tokens(secret=settings.secret.get_secret_value(), lifetime=settings.token_lifetime)
    accounts = Accounts(passwords=Passwords(), tokens=tokens)
    current_user = guard(accounts, database)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await database.close()

    app = FastAPI(title="Storefront", description="53,940 real diamonds, cached by Tiercel.", lifespan=lifespan)
    app.state.database = database
    app.include_router(storefront.catalogue.routes.router(cache, database, current_user))
    app.include_router(storefront.accounts.routes.router(cache, database, accounts, current_user))
    problems.install(app)
    cache.install(app)
    return app
