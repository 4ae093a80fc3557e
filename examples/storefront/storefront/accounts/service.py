"""What accounts do: let users in, and tell who is asking."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from storefront.accounts import queries
from storefront.accounts.models import User
from storefront.accounts.passwords import Passwords
from storefront.accounts.schemas import Token
from storefront.accounts.tokens import Tokens
from storefront.errors import InvalidGrant, InvalidScope, MissingScope, NotAuthenticated


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """The accounts of one application."""

    passwords: Passwords
    tokens: Tokens

    async def log_in(self, session: AsyncSession, name: str, password: str, wanted: Collection[str]) -> Token:
        """Give a token with the wanted scopes, with all of the user's when none is named (RFC 6749 §3.3)."""
        user = await queries.user_named(session, name)
        matches = await self.passwords.match(password, user.password_hash if user else None)
        if user is None or not matches:
            raise InvalidGrant("the user name or the password is wrong")
        owned = user.scopes.split()
        if not set(wanted) <= set(owned):
            raise InvalidScope(f"{name} has only these scopes: {user.scopes or 'none'}")
        scope = " ".join(each for each in owned if each in wanted or not wanted)
        seconds = int(self.tokens.lifetime.total_seconds())
        return Token(access_token=self.tokens.issue(user.id, scope), expires_in=seconds, scope=scope)

    async def identify(self, session: AsyncSession, token: str | None, needed: Collection[str]) -> User:
        """Tell whose token it is, or raise `NotAuthenticated`; `MissingScope` where it does not permit enough."""
        if token is None:
            raise NotAuthenticated(sent=False)
        claims = self.tokens.read(token)
        user = await queries.user(session, claims.sub)
        if user is None:
            raise NotAuthenticated(sent=True)
        # A scope that was taken from the user is gone from the tokens given before, too.
        if not set(needed) <= set(claims.scope.split()) & set(user.scopes.split()):
            raise MissingScope(" ".join(needed))
        return user
