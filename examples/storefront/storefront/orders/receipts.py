"""Receipts: what a customer can print, and the books in which it is noted that one was drawn up."""

import logging

from storefront.orders.schemas import OrderOut

_log = logging.getLogger("storefront.receipts")


def receipt(order: OrderOut) -> str:
    """Write the receipt of an order."""
    lines = [
        f"{line.quantity:>5} × product {line.product_id:<9} {line.price * line.quantity:>8} USD" for line in order.lines
    ]
    return "\n".join(
        [f"Order {order.id}, {order.placed_at:%Y-%m-%d}", *lines, f"{'Total':<25} {order.total:>8} USD", ""]
    )


async def note(order: OrderOut) -> None:
    """Note in the books that one was drawn up; after the answer, for which nobody waits. Where it matters: events."""
    _log.info("drew up the receipt of order %s over %s USD", order.id, order.total)
