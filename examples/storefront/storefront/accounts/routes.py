"""Accounts over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response, Security
from fastapi.security import OAuth2PasswordRequestForm
from sqlalchemy.ext.asyncio import AsyncSession

from storefront.accounts.models import User
from storefront.accounts.schemas import Me, Token
from storefront.parts import Parts
from storefront.shapes import shaped


def router(parts: Parts) -> APIRouter:
    """Build the routes of one application."""
    routes = APIRouter(tags=["accounts"])
    per_request = Depends(parts.database.session)

    @routes.post("/token")
    async def log_in(
        form: Annotated[OAuth2PasswordRequestForm, Depends()],
        session: Annotated[AsyncSession, per_request],
        response: Response,
    ) -> Token:
        """Trade a user name and a password for a token."""
        response.headers["Cache-Control"] = "no-store"  # RFC 6749 §5.1
        return await parts.accounts.log_in(session, form.username, form.password, form.scopes)

    # Guarded: the token is checked for a hit, too, and each user has entries of their own.
    @routes.get("/me")
    @shaped(parts.cache, ttl="1m")
    async def read_me(user: Annotated[User, Security(parts.current_user)]) -> Me:
        """Read your own account."""
        return Me.model_validate(user)

    return routes
