"""What the shop makes of events, and shows of that."""

from sqlalchemy.ext.asyncio import AsyncSession

from storefront.events.schemas import OrderPlaced, ProductChanged
from storefront.sales import queries
from storefront.sales.schemas import Bestseller, ChangeOut


async def count(session: AsyncSession, placed: OrderPlaced) -> None:
    """Count what an order has sold. It is committed by the caller, who sees to it that it is counted once."""
    # In the order of their ids, so that two orders never wait for each other.
    for sold in sorted(placed.lines, key=lambda line: line.product_id):
        await queries.add(session, sold)


async def note(session: AsyncSession, changed: ProductChanged) -> None:
    """Note that a product has changed. It is committed by the caller. One that was taken off since is passed over."""
    if await queries.on_sale(session, changed.product_id):
        await queries.note(session, changed)


async def bestsellers(session: AsyncSession, limit: int) -> list[Bestseller]:
    """Show what was sold most."""
    return [Bestseller.model_validate(each) for each in await queries.bestsellers(session, limit)]


async def recent(session: AsyncSession, limit: int) -> list[ChangeOut]:
    """Show what has changed last."""
    return [ChangeOut.model_validate(each) for each in await queries.recent(session, limit)]
