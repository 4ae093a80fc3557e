"""All SQL of accounts."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from storefront.accounts.models import User


async def user_named(session: AsyncSession, name: str) -> User | None:
    """Find the user who logs in with this name."""
    return (await session.scalars(select(User).where(User.name == name))).one_or_none()


async def user(session: AsyncSession, user_id: int) -> User | None:
    """Read one user."""
    return await session.get(User, user_id)
