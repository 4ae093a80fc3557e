"""What sales show."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Bestseller(BaseModel):
    """What was sold of a product: pieces, and dollars."""

    model_config = ConfigDict(from_attributes=True)

    product_id: int
    quantity: int
    revenue: int


class ChangeOut(BaseModel):
    """How a product is since it changed last."""

    model_config = ConfigDict(from_attributes=True)

    product_id: int
    price: int
    stock: int
    version: int
    changed_at: datetime


class First(BaseModel):
    """How many, from the top."""

    limit: Annotated[int, Field(ge=1, le=100)] = 10
