"""Tables that follow from events, and could be made again from what they tell of."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from storefront.database import Model, Moment


class Sales(Model):
    """How much of a product was sold, in pieces and in dollars."""

    __tablename__ = "sales"
    __table_args__ = (Index(None, "quantity", "product_id"),)

    product_id: Mapped[int] = mapped_column(ForeignKey("products.id", ondelete="CASCADE"), primary_key=True)
    quantity: Mapped[int] = mapped_column(BigInteger)
    revenue: Mapped[int] = mapped_column(BigInteger)
    """Two orders of a thousand of what is dearest are more than two billion."""


class Change(Model):
    """The last change of a product that was heard of."""

    __tablename__ = "changes"

    product_id: Mapped[int] = mapped_column(ForeignKey("products.id", ondelete="CASCADE"), primary_key=True)
    version: Mapped[int]
    price: Mapped[int]
    stock: Mapped[int]
    changed_at: Mapped[datetime] = mapped_column(Moment, index=True)
