"""What the shop does with its diamonds."""

from collections.abc import Sequence

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from storefront.catalogue import queries
from storefront.catalogue.grades import Clarity, Color, Cut
from storefront.catalogue.models import Product
from storefront.catalogue.schemas import (
    Count,
    Facets,
    Filters,
    Listing,
    Order,
    PriceCount,
    PriceStatistics,
    ProductChange,
    ProductIn,
    ProductOut,
)
from storefront.errors import BadCursor, Conflict, NotFound
from storefront.events.outbox import Outbox
from storefront.events.schemas import ProductChanged
from storefront.paging import Cursor, Page


async def product(session: AsyncSession, product_id: int) -> ProductOut:
    """Show one diamond, or raise `NotFound`."""
    return _shown(await queries.product(session, product_id), product_id)


async def products(session: AsyncSession, ids: Sequence[int]) -> dict[int, ProductOut]:
    """Show the diamonds of these ids that there are, by id."""
    return {each.id: ProductOut.model_validate(each) for each in await queries.products(session, ids)}


async def change(session: AsyncSession, outbox: Outbox, product_id: int, wanted: ProductChange) -> ProductOut:
    """Change one diamond, or raise `NotFound`. It is committed when this returns."""
    changed = _shown(await queries.change(session, product_id, wanted.model_dump(exclude_none=True)), product_id)
    outbox.put(session, _changed(changed))
    await session.commit()
    return changed


async def add(session: AsyncSession, outbox: Outbox, wanted: ProductIn) -> ProductOut:
    """Put a diamond on sale. It is committed when this returns."""
    added = ProductOut.model_validate(await queries.add(session, wanted.model_dump()))
    outbox.put(session, _changed(added))
    await session.commit()
    return added


async def remove(session: AsyncSession, outbox: Outbox, product_id: int) -> None:
    """Take one diamond off the catalogue, or raise `NotFound`; `Conflict` where somebody has bought or reviewed it.

    Or where it has files. It is committed when this returns.
    """
    try:
        gone = await queries.remove(session, product_id)
    except IntegrityError:
        raise Conflict(
            f"product {product_id} was bought or reviewed, or has files: set its stock to 0 instead"
        ) from None
    if gone is None:
        raise _not_found(product_id)
    price, version = gone
    outbox.put(session, ProductChanged(product_id=product_id, price=price, stock=0, version=version + 1))
    await session.commit()


async def page(session: AsyncSession, listing: Listing) -> Page[ProductOut]:
    """Show one page of a list, or raise `BadCursor`."""
    # One more than asked for tells whether there is a next page.
    found = await queries.listed(session, listing, listing.order, _place(listing), listing.limit + 1)
    items = [ProductOut.model_validate(each) for each in found[: listing.limit]]
    more = len(found) > listing.limit
    return Page(
        items=items,
        next=_cursor(listing.order, found[listing.limit - 1]) if more else None,
        total=await queries.count(session, listing) if listing.counted else None,
    )


async def facets(session: AsyncSession, filters: Filters) -> Facets:
    """Show how the diamonds that pass the filters divide."""
    found = await queries.facets(session, filters)
    counts: dict[str, dict[str, int]] = {"cut": {}, "color": {}, "clarity": {}, "price": {}}
    for facet, value, count in found:
        counts[facet][value] = count
    return Facets(
        total=sum(counts["cut"].values()),
        cut=[Count(value=grade, count=counts["cut"][grade]) for grade in Cut if grade in counts["cut"]],
        color=[Count(value=grade, count=counts["color"][grade]) for grade in Color if grade in counts["color"]],
        clarity=[Count(value=grade, count=counts["clarity"][grade]) for grade in Clarity if grade in counts["clarity"]],
        price=[
            PriceCount(low=low, high=low + queries.PRICE_STEP, count=count)
            for low, count in sorted((int(low), count) for low, count in counts["price"].items())
        ],
    )


async def prices(session: AsyncSession) -> list[PriceStatistics]:
    """Show the price statistics of each cut and color that there is."""
    return [
        PriceStatistics(cut=cut, color=color, count=count, min=low, max=high, mean=round(mean, 2), median=float(median))
        for cut, color, count, low, high, mean, median in await queries.prices(session)
    ]


async def weighed(session: AsyncSession) -> list[tuple[float, int]]:
    """Tell weight and price of all diamonds."""
    return list(await queries.weighed(session))


def _changed(product: ProductOut) -> ProductChanged:
    return ProductChanged(product_id=product.id, price=product.price, stock=product.stock, version=product.version)


def _shown(found: Product | None, product_id: int) -> ProductOut:
    if found is None:
        raise _not_found(product_id)
    return ProductOut.model_validate(found)


def _not_found(product_id: int) -> NotFound:
    return NotFound(f"there is no product {product_id}")


def _place(listing: Listing) -> tuple[float, ...] | int:
    if listing.cursor is None:
        return listing.skipped
    cursor = Cursor.read(listing.cursor)
    if cursor.order != listing.order or len(cursor.after) != len(queries.ORDERS[listing.order]):
        raise BadCursor(f"this cursor is not of a list in the order {listing.order}: take it from the page before")
    return cursor.after


def _cursor(order: Order, last: Product) -> str:
    after = tuple(getattr(last, column.key) for column in queries.ORDERS[order])
    return Cursor(order=order, after=after).write()
