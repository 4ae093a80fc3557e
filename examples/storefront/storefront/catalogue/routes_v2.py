"""Products in the second version of the API: the same service and the same tags, another shape."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response, Security
from sqlalchemy.ext.asyncio import AsyncSession

from storefront.catalogue import service
from storefront.catalogue.routes import ALL_OF_IT, ProductId
from storefront.catalogue.schemas import Listing, ProductChange, ProductIn
from storefront.catalogue.schemas_v2 import ProductOut
from storefront.paging import Page
from storefront.parts import Parts
from storefront.reference.document import answers


def products(parts: Parts) -> APIRouter:
    """Build the routes of products."""
    cache, outbox, routes = parts.cache, parts.events.outbox, APIRouter(tags=["catalogue"])
    per_request = Depends(parts.database.session)
    may_write = Security(parts.guard.current_user, scopes=["products:write"])

    @routes.get("/products", responses=answers(400))
    @cache.response(ttl=30, stale_while_revalidate=30, tags="products")
    async def list_products(
        listing: Annotated[Listing, Query()], session: Annotated[AsyncSession, per_request]
    ) -> Page[ProductOut]:
        """List the diamonds that pass the filters, page by page."""
        return (await service.page(session, listing)).showing(ProductOut.of)

    @routes.get("/products/{product_id}")
    @cache.response(ttl="1m", stale_while_revalidate=30, tags="product:{product_id}")
    async def read_product(product_id: ProductId, session: Annotated[AsyncSession, per_request]) -> ProductOut:
        """Read one diamond."""
        return ProductOut.of(await service.product(session, product_id))

    @routes.post("/products", status_code=201, dependencies=[may_write])
    @cache.invalidates("products", "facets", "stats")
    async def add_product(
        wanted: ProductIn, session: Annotated[AsyncSession, per_request], request: Request, response: Response
    ) -> ProductOut:
        """Put a diamond on sale."""
        added = ProductOut.of(await service.add(session, outbox, wanted))
        response.headers["Location"] = f"{request.url.path}/{added.id}"
        return added

    @routes.patch("/products/{product_id}", dependencies=[may_write])
    @cache.invalidates(*ALL_OF_IT)
    async def change_product(
        product_id: ProductId, wanted: ProductChange, session: Annotated[AsyncSession, per_request]
    ) -> ProductOut:
        """Change the price or the stock of one diamond."""
        return ProductOut.of(await service.change(session, outbox, product_id, wanted))

    @routes.delete("/products/{product_id}", status_code=204, dependencies=[may_write], responses=answers(409))
    @cache.invalidates(*ALL_OF_IT, "recent")
    async def remove_product(product_id: ProductId, session: Annotated[AsyncSession, per_request]) -> None:
        """Take a diamond off the catalogue."""
        await service.remove(session, outbox, product_id)

    return routes
