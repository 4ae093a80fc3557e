"""What is told to who listens."""

from typing import Literal, NamedTuple

from pydantic import BaseModel


class Stock(BaseModel):
    """How a product is now. What has a lower `version` than you know of came late: pass it over."""

    product_id: int
    stock: int
    price: int
    version: int


class Hello(BaseModel):
    """The first message. Where `resumed` is false something may have been missed: read what you show again."""

    resumed: bool


class Told(NamedTuple):
    """A message, and its place among the others: with that a client that was cut off goes on."""

    id: str
    kind: Literal["hello", "stock"]
    says: Stock | Hello
