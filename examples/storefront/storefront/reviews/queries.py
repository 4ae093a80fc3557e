"""All SQL of reviews."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from storefront.reviews.models import Review


async def of_product(session: AsyncSession, product_id: int, offset: int, limit: int) -> Sequence[Review]:
    """Read some reviews of a product, the newest first."""
    statement = select(Review).where(Review.product_id == product_id).order_by(Review.id.desc())
    return (await session.scalars(statement.offset(offset).limit(limit))).all()


async def count(session: AsyncSession, product_id: int) -> int:
    """Count the reviews of a product."""
    return await session.scalar(select(func.count()).select_from(Review).where(Review.product_id == product_id)) or 0


async def ratings(session: AsyncSession, ids: Sequence[int]) -> dict[int, tuple[int, float]]:
    """Count the reviews of each of these products that has any, and take the mean of their stars."""
    statement = select(Review.product_id, func.count(), func.avg(Review.stars)).where(Review.product_id.in_(ids))
    rows = await session.execute(statement.group_by(Review.product_id))
    return {product_id: (count, float(mean)) for product_id, count, mean in rows}
