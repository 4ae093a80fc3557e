"""What an event says: to the outbox, through Redis, and to whatever release runs at the other end."""

from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


def _new_id() -> str:
    return uuid4().hex


def _now() -> datetime:
    return datetime.now(UTC)


class _Happened(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: Annotated[str, Field(min_length=1, max_length=32)] = Field(default_factory=_new_id)
    at: datetime = Field(default_factory=_now)


class Sold(BaseModel):
    """So many of a product, at the price that it had."""

    model_config = ConfigDict(frozen=True)

    product_id: int
    quantity: int
    price: int


class OrderPlaced(_Happened):
    """Somebody has bought something."""

    name: Literal["order.placed"] = "order.placed"
    order_id: int
    lines: tuple[Sold, ...]


class ProductChanged(_Happened):
    """A product is as it is told here, since its version `version`. One that was taken off has no stock."""

    name: Literal["product.changed"] = "product.changed"
    product_id: int
    price: int
    stock: int
    version: int


Event = OrderPlaced | ProductChanged

_READER: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="name")])


def read(text: str | bytes) -> Event:
    """Read an event, or raise pydantic's `ValidationError`: an event of a later release, or none at all."""
    return _READER.validate_json(text)
