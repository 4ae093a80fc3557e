"""What the shop does with reviews."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from storefront.catalogue import service as catalogue
from storefront.errors import Conflict
from storefront.paging import Page
from storefront.reviews import queries
from storefront.reviews.models import Review
from storefront.reviews.schemas import Numbered, RatingOut, ReviewIn, ReviewOut
from tiercel import Cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviews:
    """The reviews of one application."""

    cache: Cache

    async def write(self, session: AsyncSession, user_id: int, product_id: int, wanted: ReviewIn) -> ReviewOut:
        """Write a review, or raise `NotFound`; `Conflict` where this user has written one of this product."""
        await catalogue.product(session, product_id)
        written = Review(product_id=product_id, user_id=user_id, written_at=datetime.now(UTC), **wanted.model_dump())
        session.add(written)
        try:
            await session.flush()
        except IntegrityError:
            raise Conflict(f"you have reviewed product {product_id} already") from None
        async with self.cache.mutation(f"reviews:{product_id}"):
            await session.commit()
        return ReviewOut.model_validate(written)

    async def page(self, session: AsyncSession, product_id: int, which: Numbered) -> Page[ReviewOut]:
        """Show one page of the reviews of a product, the newest first, or raise `NotFound`."""
        await catalogue.product(session, product_id)
        found = await queries.of_product(session, product_id, (which.page - 1) * which.limit, which.limit)
        items = [ReviewOut.model_validate(each) for each in found]
        return Page(items=items, next=None, total=await queries.count(session, product_id))


async def ratings(session: AsyncSession, ids: Sequence[int]) -> list[RatingOut]:
    """Show how each of these products is rated, in their order."""
    found = await queries.ratings(session, ids)
    rated = [found.get(one, (0, None)) for one in ids]
    return [RatingOut(count=count, mean=None if mean is None else round(mean, 2)) for count, mean in rated]
