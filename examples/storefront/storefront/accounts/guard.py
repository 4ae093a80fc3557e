"""The dependency that lets a request in, or does not."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends
from fastapi.security import OAuth2PasswordBearer, SecurityScopes
from sqlalchemy.ext.asyncio import AsyncSession

from storefront.accounts.models import User
from storefront.accounts.service import Accounts
from storefront.database import Database

CurrentUser = Callable[..., Awaitable[User]]
"""A dependency: `Security(current_user, scopes=[...])` gives the user, or answers 401 or 403."""

SCOPES = {"products:write": "Change the price and the stock of products."}


def guard(accounts: Accounts, database: Database) -> CurrentUser:
    """Make the dependency of one application."""
    bearer = OAuth2PasswordBearer(tokenUrl="/api/v1/token", scopes=SCOPES, auto_error=False)

    async def current_user(
        needed: SecurityScopes,
        token: Annotated[str | None, Depends(bearer)],
        session: Annotated[AsyncSession, Depends(database.session)],
    ) -> User:
        return await accounts.identify(session, token, needed.scopes)

    return current_user
