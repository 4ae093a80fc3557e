"""The table of products."""

from enum import StrEnum

from sqlalchemy import CheckConstraint, Enum, Index
from sqlalchemy.orm import Mapped, mapped_column

from storefront.catalogue.grades import Clarity, Color, Cut
from storefront.database import Model


def _grades(kind: type[StrEnum]) -> Enum:
    return Enum(kind, native_enum=False, length=16, values_callable=_values)


def _values(kind: type[StrEnum]) -> list[str]:
    return [grade.value for grade in kind]


class Product(Model):
    """A diamond. `price` is in US dollars; `version` counts its changes; x, y, z are millimetres."""

    __tablename__ = "products"
    __table_args__ = (
        CheckConstraint("price >= 0", name="price"),
        CheckConstraint("stock >= 0", name="stock"),
        # The orders of pages. The id makes them total: many stones have the same price.
        Index(None, "price", "id"),
        Index(None, "carat", "id"),
        # Covers statistics (its first three, in their order) and facets under any filter.
        Index("ix_products_facets", "cut", "color", "price", "clarity", "carat"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    carat: Mapped[float]
    cut: Mapped[Cut] = mapped_column(_grades(Cut))
    color: Mapped[Color] = mapped_column(_grades(Color))
    clarity: Mapped[Clarity] = mapped_column(_grades(Clarity))
    depth: Mapped[float]
    table: Mapped[float]
    x: Mapped[float]
    y: Mapped[float]
    z: Mapped[float]
    price: Mapped[int]
    stock: Mapped[int]
    version: Mapped[int]
