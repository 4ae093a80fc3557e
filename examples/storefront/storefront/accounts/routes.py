"""Accounts over HTTP."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Response, Security
from fastapi.security import OAuth2PasswordRequestForm
from sqlalchemy.ext.asyncio import AsyncSession

from storefront.accounts.models import User
from storefront.accounts.schemas import Me, Token
from storefront.accounts.service import Accounts
from storefront.database import Database
from tiercel import Cache


def router(
    cache: Cache, database: Database, accounts: Accounts, current_user: Callable[..., Awaitable[User]]
) -> APIRouter:
    """Build the routes of one application."""
    routes = APIRouter(tags=["accounts"])

    @routes.post("/token")
    async def log_in(
        form: Annotated[OAuth2PasswordRequestForm, Depends()],
        session: Annotated[AsyncSession, Depends(database.session)],
        response: Response,
    ) -> Token:
        """Trade a user name and a password for a token."""
        response.headers["Cache-Control"] = "no-store"  # RFC 6749 §5.1
        return await accounts.log_in(session, form.username, form.password, form.scopes)

    # Guarded: the token is checked for a hit, too, and each user has entries of their own.
    @routes.get("/me")
    @cache.response(ttl="1m")
    async def read_me(user: Annotated[User, Security(current_user)]) -> Me:
        """Read your own account."""
        return Me.model_validate(user)

    return routes
