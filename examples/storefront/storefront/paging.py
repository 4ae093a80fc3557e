"""Pages, and cursors: a page by keyset begins after a row, so its place does not move when rows come and go."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from storefront.errors import BadCursor

ItemT = TypeVar("ItemT")
OtherT = TypeVar("OtherT")

Number = Annotated[int, Field(ge=0, lt=2**31)] | Annotated[float, Field(ge=0, lt=2**31, allow_inf_nan=False)]


class Page(BaseModel, Generic[ItemT]):
    """Some items, and the cursor of the next page when there is one; how many there are in all, where that is known."""

    items: list[ItemT]
    next: str | None
    total: int | None = None

    def showing(self, shown: Callable[[ItemT], OtherT]) -> "Page[OtherT]":
        """Show the same page with each item in another shape."""
        return Page(items=[shown(item) for item in self.items], next=self.next, total=self.total)


class Cursor(BaseModel):
    """After which row a page begins: the values that `order` sorts by, the id last."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    order: str
    after: Annotated[tuple[Number, ...], Field(min_length=1, max_length=2)]

    def write(self) -> str:
        """Make the opaque form that clients hand back."""
        return urlsafe_b64encode(self.model_dump_json().encode()).decode().rstrip("=")

    @classmethod
    def read(cls, text: str) -> "Cursor":
        """Take a cursor apart, or raise `BadCursor`: it came from outside and may be anything."""
        try:
            return cls.model_validate_json(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        except ValueError:
            raise BadCursor("this is not a cursor of ours: take it from the member `next` of a page") from None
