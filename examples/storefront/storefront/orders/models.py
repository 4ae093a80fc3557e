"""The tables of orders."""

from datetime import datetime

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from storefront.database import Model, Moment


class Order(Model):
    """What somebody bought. `key` is the client's name for it, and `fingerprint` what was asked for under that name."""

    __tablename__ = "orders"
    __table_args__ = (UniqueConstraint("user_id", "key"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    key: Mapped[str] = mapped_column(String(64))
    fingerprint: Mapped[str] = mapped_column(String(64))
    placed_at: Mapped[datetime] = mapped_column(Moment)
    lines: Mapped[list["Line"]] = relationship(lazy="raise", order_by="Line.product_id")

    @property
    def total(self) -> int:
        """Dollars."""
        return sum(line.price * line.quantity for line in self.lines)


class Line(Model):
    """So many of a product, at the price that it had."""

    __tablename__ = "order_lines"

    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"), primary_key=True, index=True)
    quantity: Mapped[int]
    price: Mapped[int]
