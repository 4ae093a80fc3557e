"""The catalogue over HTTP, and what the cache may do with it."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Security
from sqlalchemy.ext.asyncio import AsyncSession

from storefront.accounts.models import User
from storefront.catalogue import service
from storefront.catalogue.schemas import Facets, Filters, Listing, PriceStatistics, ProductChange, ProductOut
from storefront.database import Database
from storefront.paging import Page
from tiercel import Cache

ProductId = Annotated[int, Path(ge=1, lt=2**31)]


def router(cache: Cache, database: Database, current_user: Callable[..., Awaitable[User]]) -> APIRouter:
    """Build the routes of one application: what they need is handed in, nothing is made at import."""
    routes = APIRouter(tags=["catalogue"])
    per_request = Depends(database.session)
    may_write = Security(current_user, scopes=["products:write"])

    @routes.get("/products")
    @cache.response(ttl=30, stale_while_revalidate=30, tags="products")
    async def list_products(
        listing: Annotated[Listing, Query()], session: Annotated[AsyncSession, per_request]
    ) -> Page[ProductOut]:
        """List the diamonds that pass the filters, page by page."""
        return await service.page(session, listing)

    # Above /products/{product_id}: the first path that matches answers.
    @routes.get("/products/facets")
    @cache.response(ttl="5m", stale_while_revalidate="1m", tags="facets")
    async def count_products(
        filters: Annotated[Filters, Query()], session: Annotated[AsyncSession, per_request]
    ) -> Facets:
        """Count the diamonds that pass the filters by cut, color, clarity and price."""
        return await service.facets(session, filters)

    @routes.get("/products/{product_id}")
    @cache.response(ttl="1m", stale_while_revalidate=30, tags="product:{product_id}")
    async def read_product(product_id: ProductId, session: Annotated[AsyncSession, per_request]) -> ProductOut:
        """Read one diamond."""
        return await service.product(session, product_id)

    @routes.patch("/products/{product_id}", dependencies=[may_write])
    @cache.invalidates("product:{product_id}", "products", "facets", "stats")
    async def change_product(
        product_id: ProductId, wanted: ProductChange, session: Annotated[AsyncSession, per_request]
    ) -> ProductOut:
        """Change the price or the stock of one diamond."""
        return await service.change(session, product_id, wanted)

    @routes.get("/stats/prices")
    @cache.response(ttl="10m", stale_while_revalidate="5m", tags="stats")
    async def read_price_statistics(session: Annotated[AsyncSession, per_request]) -> list[PriceStatistics]:
        """Read the count, minimum, maximum, mean and median price of each cut and color."""
        return await service.prices(session)

    return routes
