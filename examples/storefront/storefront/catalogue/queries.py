"""All SQL of the catalogue. Each function is one statement, so what it returns is from one moment."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Integer,
    Row,
    Select,
    String,
    case,
    cast,
    delete,
    func,
    insert,
    literal,
    select,
    tuple_,
    type_coerce,
    union_all,
    update,
)
from sqlalchemy.ext.asyncio import AsyncResult, AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from storefront.catalogue.grades import Color, Cut
from storefront.catalogue.models import Product
from storefront.catalogue.schemas import Filters, Order

PRICE_STEP = 1000
"""Dollars that a bar of the price histogram spans."""

ORDERS: Mapping[Order, tuple[InstrumentedAttribute[Any], ...]] = {
    Order.ID: (Product.id,),
    Order.PRICE: (Product.price, Product.id),
    Order.PRICE_DOWN: (Product.price, Product.id),
    Order.CARAT: (Product.carat, Product.id),
    Order.CARAT_DOWN: (Product.carat, Product.id),
}


async def product(session: AsyncSession, product_id: int) -> Product | None:
    """Read one diamond."""
    return await session.get(Product, product_id)


async def products(session: AsyncSession, ids: Sequence[int]) -> Sequence[Product]:
    """Read the diamonds of these ids that there are."""
    return (await session.scalars(select(Product).where(Product.id.in_(ids)))).all()


async def change(session: AsyncSession, product_id: int, values: Mapping[str, int]) -> Product | None:
    """Change one diamond and count its version up, in one statement: no change of another's is lost in between."""
    statement = (
        update(Product)
        .where(Product.id == product_id)
        .values(**values, version=Product.version + 1)
        .returning(Product)
        .execution_options(populate_existing=True)
    )
    return (await session.scalars(statement)).one_or_none()


async def add(session: AsyncSession, values: Mapping[str, Any]) -> Product:
    """Add one diamond."""
    return (await session.scalars(insert(Product).values(**values, version=1).returning(Product))).one()


async def remove(session: AsyncSession, product_id: int) -> Row[int, int] | None:
    """Remove one diamond; its last price and version, or None where it was not there."""
    statement = delete(Product).where(Product.id == product_id).returning(Product.price, Product.version)
    return (await session.execute(statement)).one_or_none()


async def count(session: AsyncSession, filters: Filters) -> int:
    """Count the diamonds that pass the filters."""
    return await session.scalar(select(func.count()).select_from(Product).where(*_passing(filters))) or 0


async def listed(
    session: AsyncSession, filters: Filters, order: Order, after: Sequence[float] | int, limit: int
) -> Sequence[Product]:
    """Read the first `limit` diamonds that pass, after so many, or after the row with these values of the order."""
    columns = ORDERS[order]
    down = order.startswith("-")
    statement = (
        select(Product)
        .where(*_passing(filters))
        .order_by(*(column.desc() if down else column.asc() for column in columns))
        .limit(limit)
    )
    if isinstance(after, int):
        statement = statement.offset(after)
    else:
        # A cursor comes from outside: its numbers take the types of the columns.
        values = [literal(column.type.python_type(value)) for column, value in zip(columns, after, strict=True)]
        place, here = tuple_(*columns), tuple_(*values)
        statement = statement.where(place < here if down else place > here)
    return (await session.scalars(statement)).all()


async def streamed(
    session: AsyncSession, filters: Filters, names: Sequence[str], at_once: int
) -> AsyncResult[*tuple[Any, ...]]:
    """Begin to read all diamonds that pass, in order: so many at once come from the database, and no more are here."""
    columns = [getattr(Product, name) for name in names]
    statement = select(*columns).where(*_passing(filters)).order_by(Product.id)
    return await session.stream(statement, execution_options={"yield_per": at_once})


async def facets(session: AsyncSession, filters: Filters) -> Sequence[Row[str, str, int]]:
    """Count the diamonds that pass, by cut, color, clarity and step of price: (facet, value, count)."""
    passing = (
        select(
            type_coerce(Product.cut, String).label("cut"),
            type_coerce(Product.color, String).label("color"),
            type_coerce(Product.clarity, String).label("clarity"),
            cast(Product.price // PRICE_STEP * PRICE_STEP, String).label("price"),
        )
        .where(*_passing(filters))
        .subquery()
    )
    # One walk over the index makes a few thousand groups; the four facets are sums of those.
    groups = select(*passing.c, func.count().label("size")).group_by(*passing.c).cte("groups")
    statement = union_all(*(_summed(groups, facet) for facet in ("cut", "color", "clarity", "price")))
    return (await session.execute(statement)).all()


def _summed(groups: CTE, facet: str) -> Select[str, str, int]:
    value: ColumnElement[str] = groups.c[facet]
    return select(literal(facet), value, cast(func.sum(groups.c.size), Integer)).group_by(value)


async def weighed(session: AsyncSession) -> Sequence[tuple[float, int]]:
    """Read weight and price of all diamonds."""
    return [(carat, price) for carat, price in await session.execute(select(Product.carat, Product.price))]


async def prices(session: AsyncSession) -> Sequence[Row[Cut, Color, int, int, int, float, float]]:
    """Count, minimum, maximum, mean and median of the prices of each cut and color, over the whole catalogue."""
    group = (Product.cut, Product.color)
    ranked = select(
        *group,
        Product.price,
        func.row_number().over(partition_by=group, order_by=Product.price).label("rank"),
        func.count().over(partition_by=group).label("size"),
    ).subquery()
    cut, color, price, rank, size = ranked.c
    # The middle one, or the mean of the two in the middle. SQLite has no percentile_cont; this runs on Postgres, too.
    in_the_middle = rank.in_([(size + 1) // 2, (size + 2) // 2])
    statement = (
        select(
            cut,
            color,
            func.count(),
            func.min(price),
            func.max(price),
            func.avg(price),
            func.avg(case((in_the_middle, price))),
        )
        .group_by(cut, color)
        .order_by(cut, color)
    )
    return (await session.execute(statement)).all()


def _passing(filters: Filters) -> list[ColumnElement[bool]]:
    grades = ((Product.cut, filters.cut), (Product.color, filters.color), (Product.clarity, filters.clarity))
    ranges = (
        (Product.price, filters.price_min, filters.price_max),
        (Product.carat, filters.carat_min, filters.carat_max),
    )
    return [
        *(column.in_(wanted) for column, wanted in grades if wanted),
        *(column >= low for column, low, _ in ranges if low is not None),
        *(column <= high for column, _, high in ranges if high is not None),
    ]
