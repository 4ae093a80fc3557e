"""The catalogue over HTTP, and what the cache may do with it."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response, Security
from sqlalchemy.ext.asyncio import AsyncSession

from storefront.catalogue import service
from storefront.catalogue.grades import Clarity, Color, Cut
from storefront.catalogue.schemas import (
    Facets,
    Filters,
    Grading,
    Listing,
    PriceStatistics,
    ProductChange,
    ProductIn,
    ProductOut,
    Trend,
)
from storefront.catalogue.trend import trend
from storefront.paging import Page
from storefront.parts import Parts
from storefront.reference.document import answers

ProductId = Annotated[int, Path(ge=1, lt=2**31)]
ALL_OF_IT = ("product:{product_id}", "products", "facets", "stats")
"""What is made of one product: itself, the lists that it may be on, and what is counted over many."""


def products(parts: Parts) -> APIRouter:
    """Build the routes of products: what they need is handed in, nothing is made at import."""
    cache, outbox, routes = parts.cache, parts.events.outbox, APIRouter(tags=["catalogue"])
    per_request = Depends(parts.database.session)
    may_write = Security(parts.guard.current_user, scopes=["products:write"])

    @routes.get("/products", responses=answers(400))
    @cache.response(ttl=30, stale_while_revalidate=30, tags="products")
    async def list_products(
        listing: Annotated[Listing, Query()], session: Annotated[AsyncSession, per_request]
    ) -> Page[ProductOut]:
        """List the diamonds that pass the filters, page by page."""
        return await service.page(session, listing)

    @routes.get("/products/{product_id}")
    @cache.response(ttl="1m", stale_while_revalidate=30, tags="product:{product_id}")
    async def read_product(product_id: ProductId, session: Annotated[AsyncSession, per_request]) -> ProductOut:
        """Read one diamond."""
        return await service.product(session, product_id)

    @routes.post("/products", status_code=201, dependencies=[may_write])
    @cache.invalidates("products", "facets", "stats")
    async def add_product(
        wanted: ProductIn, session: Annotated[AsyncSession, per_request], request: Request, response: Response
    ) -> ProductOut:
        """Put a diamond on sale."""
        added = await service.add(session, outbox, wanted)
        response.headers["Location"] = f"{request.url.path}/{added.id}"
        return added

    @routes.patch("/products/{product_id}", dependencies=[may_write])
    @cache.invalidates(*ALL_OF_IT)
    async def change_product(
        product_id: ProductId, wanted: ProductChange, session: Annotated[AsyncSession, per_request]
    ) -> ProductOut:
        """Change the price or the stock of one diamond."""
        return await service.change(session, outbox, product_id, wanted)

    @routes.delete("/products/{product_id}", status_code=204, dependencies=[may_write], responses=answers(409))
    @cache.invalidates(*ALL_OF_IT, "recent")
    async def remove_product(product_id: ProductId, session: Annotated[AsyncSession, per_request]) -> None:
        """Take a diamond off the catalogue."""
        await service.remove(session, outbox, product_id)

    return routes


def overviews(parts: Parts) -> APIRouter:
    """Build the routes of what is counted over many products."""
    cache, routes = parts.cache, APIRouter(tags=["catalogue"])
    per_request = Depends(parts.database.session)

    @routes.get("/products/facets")
    @cache.response(ttl="5m", stale_while_revalidate="1m", tags="facets")
    async def count_products(
        filters: Annotated[Filters, Query()], session: Annotated[AsyncSession, per_request]
    ) -> Facets:
        """Count the diamonds that pass the filters by cut, color, clarity and price."""
        return await service.facets(session, filters)

    @routes.get("/stats/trend")
    @cache.response(ttl="1h", stale_while_revalidate="1h", tags="stats")
    async def read_trend(session: Annotated[AsyncSession, per_request]) -> Trend:
        """Read how prices go with weight."""
        return await parts.workshop.do(trend, await service.weighed(session))

    # Synchronous, so FastAPI runs it in a thread; the cache makes no difference of that.
    @routes.get("/grades")
    @cache.response(ttl="1d")
    def read_grades() -> Grading:
        """Read in what words diamonds are graded, worst to best."""
        return Grading(cut=list(Cut), color=list(Color), clarity=list(Clarity))

    @routes.get("/stats/prices")
    @cache.response(ttl="10m", stale_while_revalidate="5m", tags="stats")
    async def read_price_statistics(session: Annotated[AsyncSession, per_request]) -> list[PriceStatistics]:
        """Read the count, minimum, maximum, mean and median price of each cut and color."""
        return await service.prices(session)

    return routes
