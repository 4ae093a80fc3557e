"""The versions of the API. A version is a list of routers: what did not change is the same router in both."""

from fastapi import APIRouter

import storefront.accounts.routes
import storefront.catalogue.routes
import storefront.catalogue.routes_v2
import storefront.currencies.routes
import storefront.exports.routes
import storefront.live.routes
import storefront.orders.routes
import storefront.reviews.routes
import storefront.sales.routes
import storefront.uploads.routes
from storefront.parts import Parts


def v1(parts: Parts) -> APIRouter:
    """Build the first version."""
    exports = storefront.exports.routes.router(parts)
    return _version("/api/v1", *_the_same(parts), storefront.catalogue.routes.products(parts), exports)


def v2(parts: Parts) -> APIRouter:
    """Build the second, in which a product says what its numbers are."""
    return _version("/api/v2", *_the_same(parts), storefront.catalogue.routes_v2.products(parts))


def _the_same(parts: Parts) -> tuple[APIRouter, ...]:
    # Above the products: of /products/facets and /products/{product_id} the first that matches answers.
    return (
        storefront.catalogue.routes.overviews(parts),
        storefront.accounts.routes.router(parts),
        storefront.currencies.routes.router(parts),
        storefront.live.routes.router(parts),
        storefront.orders.routes.router(parts),
        storefront.reviews.routes.router(parts),
        storefront.sales.routes.router(parts),
        storefront.uploads.routes.router(parts),
    )


def _version(prefix: str, *routers: APIRouter) -> APIRouter:
    version = APIRouter(prefix=prefix)
    for router in routers:
        version.include_router(router)
    return version
