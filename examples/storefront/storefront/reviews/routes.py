"""Reviews over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Security
from sqlalchemy.ext.asyncio import AsyncSession

from storefront.accounts.identity import Identity
from storefront.catalogue.routes import ProductId
from storefront.paging import Page
from storefront.parts import Parts
from storefront.reference.document import answers
from storefront.reviews.schemas import Numbered, ReviewIn, ReviewOut


def router(parts: Parts) -> APIRouter:
    """Build the routes of one application. Everybody may read, and who has an account may write."""
    routes = APIRouter(prefix="/products/{product_id}", tags=["reviews"])
    per_request = Depends(parts.database.session)

    @routes.get("/reviews")
    @parts.cache.response(ttl="5m", stale_while_revalidate="1m", tags=("reviews:{product_id}", "product:{product_id}"))
    async def list_reviews(
        product_id: ProductId, which: Annotated[Numbered, Query()], session: Annotated[AsyncSession, per_request]
    ) -> Page[ReviewOut]:
        """List what customers say of a product, the newest first."""
        return await parts.reviews.page(session, product_id, which)

    @routes.post("/reviews", status_code=201, dependencies=[Depends(parts.limited)], responses=answers(409))
    async def write_review(
        product_id: ProductId,
        wanted: ReviewIn,
        user: Annotated[Identity, Security(parts.guard.current_user)],
        session: Annotated[AsyncSession, per_request],
    ) -> ReviewOut:
        """Say what you think of a product, once."""
        return await parts.reviews.write(session, user.id, product_id, wanted)

    return routes
