"""Sales over HTTP. No request writes what they show: consumers of events do, and invalidate it."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from sqlalchemy.ext.asyncio import AsyncSession

from storefront.parts import Parts
from storefront.sales import service
from storefront.sales.schemas import Bestseller, ChangeOut, First


def router(parts: Parts) -> APIRouter:
    """Build the routes of one application."""
    routes = APIRouter(prefix="/products", tags=["catalogue"])
    per_request = Depends(parts.database.session)

    @routes.get("/bestsellers")
    @parts.cache.response(ttl="1h", stale_while_revalidate="1m", tags="bestsellers")
    async def list_bestsellers(
        which: Annotated[First, Query()], session: Annotated[AsyncSession, per_request]
    ) -> list[Bestseller]:
        """List what was sold most. It follows the orders by moments."""
        return await service.bestsellers(session, which.limit)

    @routes.get("/recent")
    @parts.cache.response(ttl="1h", stale_while_revalidate="1m", tags="recent")
    async def list_recent_changes(
        which: Annotated[First, Query()], session: Annotated[AsyncSession, per_request]
    ) -> list[ChangeOut]:
        """List what has changed last. It follows the changes by moments."""
        return await service.recent(session, which.limit)

    return routes
