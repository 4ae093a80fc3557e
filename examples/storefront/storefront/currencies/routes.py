"""Prices in other currencies over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from storefront.catalogue import service
from storefront.catalogue.routes import ProductId
from storefront.errors import NotFound
from storefront.parts import Parts
from storefront.reference.document import answers

Currency = Annotated[str, Query(pattern="^[A-Z]{3}$")]


class Converted(BaseModel):
    """What a diamond costs in another currency."""

    amount: float
    currency: str


def router(parts: Parts) -> APIRouter:
    """Build the routes of one application."""
    routes = APIRouter(tags=["currencies"])

    # Not stored itself: it is made of what is remembered, and of one row.
    @routes.get("/products/{product_id}/price", responses=answers(503))
    async def read_price(
        product_id: ProductId, currency: Currency, session: Annotated[AsyncSession, Depends(parts.database.session)]
    ) -> Converted:
        """Read what a diamond costs in another currency."""
        product = await service.product(session, product_id)
        rates = await parts.rates_of("USD")
        if currency not in rates:
            raise NotFound(f"the bank knows no {currency}")
        return Converted(amount=round(product.price * rates[currency], 2), currency=currency)

    return routes
