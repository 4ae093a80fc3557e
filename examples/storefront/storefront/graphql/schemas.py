"""The types of the graph, and how each field is read."""

from typing import Any, Self, TypeVar

import strawberry
from pydantic import BaseModel, ValidationError
from strawberry.types import Info

from storefront.catalogue import grades, schemas
from storefront.errors import BadQuery
from storefront.graphql.reading import Reading

MOST_IDS = 50
"""Products that can be asked for by id at once."""

ModelT = TypeVar("ModelT", bound=BaseModel)

Reads = Info[Reading, None]

for words in (grades.Cut, grades.Color, grades.Clarity, schemas.Order):
    strawberry.enum(words)


@strawberry.type(description="What customers think of a product: how many stars, in the mean.")
class Rating:
    """As `reviews.schemas.RatingOut`."""

    count: int
    mean: float | None


@strawberry.type(description="A diamond. `depth` and `table` are percentages; `version` grows with every change.")
class Product:
    """As `catalogue.schemas.ProductOut`."""

    id: int
    carat: float
    cut: grades.Cut
    color: grades.Color
    clarity: grades.Clarity
    depth: float
    table: float
    x: float
    y: float
    z: float
    price: int
    stock: int
    version: int

    @classmethod
    def of(cls, product: schemas.ProductOut | None) -> Self | None:
        """Show one, where there is one."""
        return None if product is None else cls(**dict(product))

    @strawberry.field
    async def rating(self, info: Reads) -> Rating:
        """Read the stars of all reviews."""
        return Rating(**dict(await info.context.ratings.load(self.id)))


@strawberry.type(description="Some diamonds; `next` is what `after` takes for the next page, when there is one.")
class ProductPage:
    """As `Page[ProductOut]`."""

    items: list[Product]
    next: str | None


@strawberry.type(description="How many have this cut.")
class CutCount:
    """As `Count[Cut]`."""

    value: grades.Cut
    count: int


@strawberry.type(description="How many have this color.")
class ColorCount:
    """As `Count[Color]`."""

    value: grades.Color
    count: int


@strawberry.type(description="How many have this clarity.")
class ClarityCount:
    """As `Count[Clarity]`."""

    value: grades.Clarity
    count: int


@strawberry.type(description="How many cost at least `low` and less than `high` dollars.")
class PriceCount:
    """As `catalogue.schemas.PriceCount`."""

    low: int
    high: int
    count: int


@strawberry.type(description="How the diamonds that pass a filter divide.")
class Facets:
    """As `catalogue.schemas.Facets`."""

    total: int
    cut: list[CutCount]
    color: list[ColorCount]
    clarity: list[ClarityCount]
    price: list[PriceCount]


@strawberry.input(description="Which diamonds: of any of the given grades, within the given ranges, ends included.")
class Filters:
    """As `catalogue.schemas.Filters`, which judges it."""

    cut: list[grades.Cut] = strawberry.field(default_factory=list[grades.Cut])
    color: list[grades.Color] = strawberry.field(default_factory=list[grades.Color])
    clarity: list[grades.Clarity] = strawberry.field(default_factory=list[grades.Clarity])
    price_min: int | None = None
    price_max: int | None = None
    carat_min: float | None = None
    carat_max: float | None = None


@strawberry.type
class Query:
    """What can be read."""

    @strawberry.field
    async def product(self, info: Reads, id: int) -> Product | None:  # noqa: A002 - the name that clients see
        """Read one diamond."""
        return Product.of(await info.context.products.load(id))

    @strawberry.field
    async def products_by_id(self, info: Reads, ids: list[int]) -> list[Product | None]:
        """Read several diamonds."""
        if len(ids) > MOST_IDS:
            raise BadQuery(f"ids: at most {MOST_IDS}")
        return [Product.of(found) for found in await info.context.products.load_many(ids)]

    @strawberry.field
    async def products(
        self,
        info: Reads,
        filters: Filters | None = None,
        order: schemas.Order = schemas.Order.ID,
        first: int = 20,
        after: str | None = None,
    ) -> ProductPage:
        """List diamonds by keyset."""
        listing = _checked(schemas.Listing, filters, order=order, limit=first, cursor=after)
        page = await info.context.page(listing)
        return ProductPage(items=[Product(**dict(item)) for item in page.items], next=page.next)

    @strawberry.field
    async def facets(self, info: Reads, filters: Filters | None = None) -> Facets:
        """Count diamonds."""
        found = await info.context.facets(_checked(schemas.Filters, filters))
        return Facets(
            total=found.total,
            cut=[CutCount(value=each.value, count=each.count) for each in found.cut],
            color=[ColorCount(value=each.value, count=each.count) for each in found.color],
            clarity=[ClarityCount(value=each.value, count=each.count) for each in found.clarity],
            price=[PriceCount(low=each.low, high=each.high, count=each.count) for each in found.price],
        )


def _checked(model: type[ModelT], filters: Filters | None, **more: Any) -> ModelT:  # noqa: ANN401 - Pydantic judges
    """Have the bounds that REST has; raises `BadQuery`."""
    try:
        return model(**vars(filters or Filters()), **more)
    except ValidationError as error:
        found = error.errors()[0]
        raise BadQuery(f"{'.'.join(map(str, found['loc']))}: {found['msg']}") from None
