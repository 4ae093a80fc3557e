"""What reviews take and give."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class ReviewIn(BaseModel):
    """One to five stars, and why."""

    model_config = ConfigDict(extra="forbid")

    stars: Annotated[int, Field(ge=1, le=5)]
    text: Annotated[str, Field(max_length=2000)] = ""


class ReviewOut(BaseModel):
    """What somebody says of a product."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    product_id: int
    stars: int
    text: str
    written_at: datetime


class RatingOut(BaseModel):
    """How many reviews a product has, and how many stars in the mean."""

    count: int
    mean: float | None


class Numbered(BaseModel):
    """Which page, by its number."""

    page: Annotated[int, Field(ge=1, le=10_000)] = 1
    limit: Annotated[int, Field(ge=1, le=100)] = 20
