"""All SQL of sales."""

from collections.abc import Sequence

from sqlalchemy import exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from storefront.catalogue.models import Product
from storefront.database import insert_into
from storefront.events.schemas import ProductChanged, Sold
from storefront.sales.models import Change, Sales


async def add(session: AsyncSession, sold: Sold) -> None:
    """Count what was sold."""
    revenue = sold.quantity * sold.price
    counted = insert_into(session, Sales).values(product_id=sold.product_id, quantity=sold.quantity, revenue=revenue)
    together = {"quantity": Sales.quantity + sold.quantity, "revenue": Sales.revenue + revenue}
    await session.execute(counted.on_conflict_do_update(index_elements=[Sales.product_id], set_=together))


async def note(session: AsyncSession, changed: ProductChanged) -> None:
    """Note a change, unless a later one was heard of before: events overtake each other."""
    values = {
        "version": changed.version,
        "price": changed.price,
        "stock": changed.stock,
        "changed_at": changed.at,
    }
    noted = insert_into(session, Change).values(product_id=changed.product_id, **values)
    later = noted.on_conflict_do_update(
        index_elements=[Change.product_id], set_=values, where=Change.version < changed.version
    )
    await session.execute(later)


async def on_sale(session: AsyncSession, product_id: int) -> bool:
    """Tell whether there is such a product."""
    return bool(await session.scalar(select(exists().where(Product.id == product_id))))


async def bestsellers(session: AsyncSession, limit: int) -> Sequence[Sales]:
    """Read what was sold most."""
    statement = select(Sales).order_by(Sales.quantity.desc(), Sales.product_id.desc()).limit(limit)
    return (await session.scalars(statement)).all()


async def recent(session: AsyncSession, limit: int) -> Sequence[Change]:
    """Read what has changed last."""
    statement = select(Change).order_by(Change.changed_at.desc(), Change.product_id).limit(limit)
    return (await session.scalars(statement)).all()
