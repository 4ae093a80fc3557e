"""All SQL of orders."""

from collections.abc import Sequence

from sqlalchemy import Row, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from storefront.catalogue.models import Product
from storefront.orders.models import Order


async def under_key(session: AsyncSession, user_id: int, key: str) -> Order | None:
    """Find the order that a user has placed under a key."""
    statement = select(Order).where(Order.user_id == user_id, Order.key == key).options(selectinload(Order.lines))
    return (await session.scalars(statement)).one_or_none()


async def order(session: AsyncSession, user_id: int, order_id: int) -> Order | None:
    """Read one order, if it is this user's."""
    statement = select(Order).where(Order.user_id == user_id, Order.id == order_id).options(selectinload(Order.lines))
    return (await session.scalars(statement)).one_or_none()


async def of_user(session: AsyncSession, user_id: int, offset: int, limit: int) -> Sequence[Order]:
    """Read some orders of a user, the newest first."""
    statement = select(Order).where(Order.user_id == user_id).order_by(Order.id.desc()).offset(offset).limit(limit)
    return (await session.scalars(statement.options(selectinload(Order.lines)))).all()


async def count(session: AsyncSession, user_id: int) -> int:
    """Count the orders of a user."""
    return await session.scalar(select(func.count()).select_from(Order).where(Order.user_id == user_id)) or 0


async def take(session: AsyncSession, product_id: int, quantity: int) -> Row[int, int, int] | None:
    """Take so many from the stock, in one statement; price, stock and version, or None where there are not so many."""
    statement = (
        update(Product)
        .where(Product.id == product_id, Product.stock >= quantity)
        .values(stock=Product.stock - quantity, version=Product.version + 1)
        .returning(Product.price, Product.stock, Product.version)
    )
    return (await session.execute(statement)).one_or_none()
