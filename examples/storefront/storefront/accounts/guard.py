"""The dependencies that let a request in, or do not."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Security
from fastapi.security import OAuth2PasswordBearer, SecurityScopes

from storefront.accounts.identity import Identity
from storefront.accounts.models import Role
from storefront.accounts.service import Accounts
from storefront.accounts.tokens import Claims
from storefront.errors import MissingRole

SCOPES = {
    "products:write": "Add, change and remove products.",
    "users:write": "Change what users may do.",
}


@dataclass(frozen=True, slots=True)
class Guard:
    """The dependencies of one application. They read the token on every request, also where the answer is a hit."""

    claims: Callable[..., Awaitable[Claims]]
    """The claims of the token."""
    current_user: Callable[..., Awaitable[Identity]]
    """`Security(guard.current_user, scopes=[...])` gives the user, or answers 401 or 403."""

    def require_role(self, role: Role) -> Callable[..., Awaitable[Identity]]:
        """Make a dependency that gives the user, or answers 401; 403 where they have another role."""

        async def in_that_role(user: Annotated[Identity, Security(self.current_user)]) -> Identity:
            if user.role != role:
                raise MissingRole(role)
            return user

        return in_that_role


def guard(accounts: Accounts) -> Guard:
    """Make the dependencies of one application."""
    bearer = OAuth2PasswordBearer(
        tokenUrl="/api/v1/token", refreshUrl="/api/v1/token/refresh", scopes=SCOPES, auto_error=False
    )

    async def identified(
        needed: SecurityScopes, token: Annotated[str | None, Depends(bearer)]
    ) -> tuple[Identity, Claims]:
        return await accounts.identify(token, needed.scopes)

    async def current_user(found: Annotated[tuple[Identity, Claims], Security(identified)]) -> Identity:
        return found[0]

    async def claims(found: Annotated[tuple[Identity, Claims], Security(identified)]) -> Claims:
        return found[1]

    return Guard(claims, current_user)
