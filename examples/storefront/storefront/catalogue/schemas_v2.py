"""What the catalogue gives in the second version of the API."""

from typing import Literal, Self

from pydantic import BaseModel

from storefront.catalogue import schemas
from storefront.catalogue.grades import Clarity, Color, Cut


class Money(BaseModel):
    """An amount, and of what."""

    amount: int
    currency: Literal["USD"] = "USD"


class Grades(BaseModel):
    """How a diamond was graded."""

    cut: Cut
    color: Color
    clarity: Clarity


class Size(BaseModel):
    """Its length, width and depth in millimetres; the others are in percent."""

    x: float
    y: float
    z: float
    depth_percent: float
    table_percent: float


class ProductOut(BaseModel):
    """A diamond. `version` grows with every change."""

    id: int
    carat: float
    grades: Grades
    size: Size
    price: Money
    stock: int
    version: int

    @classmethod
    def of(cls, product: schemas.ProductOut) -> Self:
        """Show what the first version shows, in the second's shape."""
        return cls(
            id=product.id,
            carat=product.carat,
            grades=Grades(cut=product.cut, color=product.color, clarity=product.clarity),
            size=Size(x=product.x, y=product.y, z=product.z, depth_percent=product.depth, table_percent=product.table),
            price=Money(amount=product.price),
            stock=product.stock,
            version=product.version,
        )
