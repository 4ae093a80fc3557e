"""What the catalogue takes and gives."""

from enum import StrEnum
from typing import Annotated, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from storefront.catalogue.grades import Clarity, Color, Cut

Dollars = Annotated[int, Field(ge=0, le=10_000_000)]
Carats = Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False)]
Stock = Annotated[int, Field(ge=0, le=1_000_000)]
Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Millimetres = Annotated[float, Field(ge=0, le=1_000, allow_inf_nan=False)]

GradeT = TypeVar("GradeT", Cut, Color, Clarity)


class ProductOut(BaseModel):
    """A diamond. `depth` and `table` are percentages; `version` grows with every change."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    carat: float
    cut: Cut
    color: Color
    clarity: Clarity
    depth: float
    table: float
    x: float
    y: float
    z: float
    price: int
    stock: int
    version: int


class ProductIn(BaseModel):
    """A diamond to sell."""

    model_config = ConfigDict(extra="forbid")

    carat: Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)]
    cut: Cut
    color: Color
    clarity: Clarity
    depth: Percent
    table: Percent
    x: Millimetres
    y: Millimetres
    z: Millimetres
    price: Dollars
    stock: Stock = 1


class ProductChange(BaseModel):
    """A new price, a new stock, or both."""

    model_config = ConfigDict(extra="forbid")

    price: Dollars | None = None
    stock: Stock | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if self.price is None and self.stock is None:
            raise ValueError("give a price, a stock, or both")
        return self


class Filters(BaseModel):
    """Which diamonds: of any of the given grades, within the given ranges, ends included."""

    cut: Annotated[list[Cut], Field(max_length=len(Cut))] = []
    color: Annotated[list[Color], Field(max_length=len(Color))] = []
    clarity: Annotated[list[Clarity], Field(max_length=len(Clarity))] = []
    price_min: Dollars | None = None
    price_max: Dollars | None = None
    carat_min: Carats | None = None
    carat_max: Carats | None = None


class Order(StrEnum):
    """By what a list is sorted."""

    ID = "id"
    PRICE = "price"
    PRICE_DOWN = "-price"
    CARAT = "carat"
    CARAT_DOWN = "-carat"


class Listing(Filters):
    """Which page of which list: after a `cursor`, by its number, or after so many; the first when nothing is said.

    A cursor costs the same at any depth, and its page does not move when products come and go.
    """

    order: Order = Order.ID
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: Annotated[str | None, Field(max_length=200)] = None
    page: Annotated[int | None, Field(ge=1, le=10_000)] = None
    offset: Annotated[int | None, Field(ge=0, le=1_000_000)] = None

    @model_validator(mode="after")
    def _begins_at_one_place(self) -> Self:
        if sum(place is not None for place in (self.cursor, self.page, self.offset)) > 1:
            raise ValueError("give one of cursor, page and offset")
        return self

    @property
    def counted(self) -> bool:
        """Whether the page is found by counting, so that there is a total to tell."""
        return self.page is not None or self.offset is not None

    @property
    def skipped(self) -> int:
        """How many come before it, where it is found by counting."""
        return self.offset or ((self.page or 1) - 1) * self.limit


class Count(BaseModel, Generic[GradeT]):
    """How many have this grade."""

    value: GradeT
    count: int


class PriceCount(BaseModel):
    """How many cost at least `low` and less than `high` dollars."""

    low: int
    high: int
    count: int


class Facets(BaseModel):
    """How the diamonds that pass a filter divide. Grades and price ranges that have none are left out."""

    total: int
    cut: list[Count[Cut]]
    color: list[Count[Color]]
    clarity: list[Count[Clarity]]
    price: list[PriceCount]


class PriceStatistics(BaseModel):
    """The prices of all diamonds of one cut and color, in dollars."""

    cut: Cut
    color: Color
    count: int
    min: int
    max: int
    mean: float
    median: float


class Trend(BaseModel):
    """Price = base × carat ^ exponent, over so many diamonds."""

    base: float
    exponent: float
    count: int


class Grading(BaseModel):
    """The words in which diamonds are graded, worst to best."""

    cut: list[Cut]
    color: list[Color]
    clarity: list[Clarity]
