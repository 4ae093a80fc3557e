"""What orders take and give."""

from datetime import datetime
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class LineIn(BaseModel):
    """So many of a product."""

    model_config = ConfigDict(extra="forbid")

    product_id: Annotated[int, Field(ge=1, lt=2**31)]
    quantity: Annotated[int, Field(ge=1, le=1_000)] = 1


class OrderIn(BaseModel):
    """What to buy: each product once."""

    model_config = ConfigDict(extra="forbid")

    lines: Annotated[list[LineIn], Field(min_length=1, max_length=50)]

    @model_validator(mode="after")
    def _names_each_product_once(self) -> Self:
        if len({line.product_id for line in self.lines}) < len(self.lines):
            raise ValueError("name each product once")
        return self


class LineOut(BaseModel):
    """So many of a product, at the price that it had."""

    model_config = ConfigDict(from_attributes=True)

    product_id: int
    quantity: int
    price: int


class OrderOut(BaseModel):
    """An order. `total` is in dollars."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    placed_at: datetime
    lines: list[LineOut]

    total: int


class Slice(BaseModel):
    """Which of a list: so many, after so many."""

    offset: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    limit: Annotated[int, Field(ge=1, le=100)] = 20
