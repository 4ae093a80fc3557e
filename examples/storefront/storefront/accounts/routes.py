"""Accounts over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Path, Response, Security
from fastapi.security import OAuth2PasswordRequestForm
from sqlalchemy.ext.asyncio import AsyncSession

from storefront.accounts.identity import Identity
from storefront.accounts.schemas import Token, UserChange, UserOut
from storefront.accounts.tokens import Claims
from storefront.parts import Parts
from storefront.reference.document import answers


def router(parts: Parts) -> APIRouter:
    """Build the routes of one application."""
    routes = APIRouter(tags=["accounts"])
    per_request = Depends(parts.database.session)
    admin = parts.guard.require_role("admin")

    @routes.post("/token", responses=answers(400))
    async def log_in(
        form: Annotated[OAuth2PasswordRequestForm, Depends()],
        session: Annotated[AsyncSession, per_request],
        response: Response,
    ) -> Token:
        """Trade a user name and a password for tokens."""
        response.headers["Cache-Control"] = "no-store"  # RFC 6749 §5.1
        return await parts.accounts.log_in(session, form.username, form.password, form.scopes)

    @routes.post("/token/refresh", responses=answers(400))
    async def refresh(
        refresh_token: Annotated[str, Form(max_length=200)],
        session: Annotated[AsyncSession, per_request],
        response: Response,
    ) -> Token:
        """Trade a refresh token for new tokens. Each is good for one use."""
        response.headers["Cache-Control"] = "no-store"
        return await parts.accounts.refresh(session, refresh_token)

    @routes.post("/logout", status_code=204)
    async def log_out(
        claims: Annotated[Claims, Security(parts.guard.claims)], session: Annotated[AsyncSession, per_request]
    ) -> None:
        """End the session of your token. No token of it is good for anything from now on."""
        await parts.accounts.log_out(session, claims.sid)

    # Guarded: the token is checked for a hit, too, and each user has entries of their own.
    @routes.get("/me")
    @parts.cache.response(ttl="1m", tags="user:{user.id}")
    async def read_me(user: Annotated[Identity, Security(parts.guard.current_user)]) -> UserOut:
        """Read your own account."""
        return UserOut.model_validate(user)

    # `shared`: whoever passes the dependency gets the same answer.
    @routes.get("/users", dependencies=[Depends(admin)], responses=answers(403))
    @parts.cache.response(ttl="1m", tags="users", per="shared")
    async def list_users(session: Annotated[AsyncSession, per_request]) -> list[UserOut]:
        """List everybody who has an account; for administrators."""
        return await parts.accounts.users(session)

    @routes.patch("/users/{user_id}", dependencies=[Security(admin, scopes=["users:write"])])
    async def change_user(
        user_id: Annotated[int, Path(ge=1, lt=2**31)],
        wanted: UserChange,
        session: Annotated[AsyncSession, per_request],
    ) -> UserOut:
        """Change what a user may do; for administrators. It holds at once, also for tokens given before."""
        return await parts.accounts.change(session, user_id, wanted)

    return routes
