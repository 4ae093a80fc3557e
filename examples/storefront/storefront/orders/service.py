"""What the shop does with orders."""

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from storefront.errors import Conflict, KeyReused, NotFound
from storefront.events.outbox import Outbox
from storefront.events.schemas import OrderPlaced, ProductChanged, Sold
from storefront.orders import queries
from storefront.orders.models import Line, Order
from storefront.orders.schemas import LineIn, OrderIn, OrderOut, Slice
from storefront.paging import Page
from tiercel import Cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """The orders of one application."""

    cache: Cache
    outbox: Outbox

    async def place(self, session: AsyncSession, user_id: int, key: str, wanted: OrderIn) -> tuple[OrderOut, bool]:
        """Place an order, or find the one that was placed under this key; and tell whether it was found.

        Raises `Conflict` where something is out of stock, `KeyReused` where the key is that of another order.
        """
        fingerprint = sha256(wanted.model_dump_json().encode()).hexdigest()
        placed = await queries.under_key(session, user_id, key)
        if placed is None:
            made = Order(user_id=user_id, key=key, fingerprint=fingerprint, placed_at=datetime.now(UTC), lines=[])
            try:
                return await self._add(session, made, wanted), False
            except IntegrityError:
                # The same request has come twice at the same time, and the other one was first.
                await session.rollback()
                placed = await queries.under_key(session, user_id, key)
                if placed is None:
                    raise
        if placed.fingerprint != fingerprint:
            raise KeyReused("this Idempotency-Key was used for another order: give each order its own")
        return OrderOut.model_validate(placed), True

    async def _add(self, session: AsyncSession, made: Order, wanted: OrderIn) -> OrderOut:
        session.add(made)
        await session.flush()  # before anything is taken: of two with the same key one fails here
        # In the order of their ids, so that two orders never wait for each other.
        for line in sorted(wanted.lines, key=_product):
            left = await queries.take(session, line.product_id, line.quantity)
            if left is None:
                raise Conflict(f"there are no {line.quantity} of product {line.product_id}")
            price, stock, version = left
            made.lines.append(Line(product_id=line.product_id, quantity=line.quantity, price=price))
            changed = ProductChanged(product_id=line.product_id, price=price, stock=stock, version=version)
            self.outbox.put(session, changed)
        self.outbox.put(session, _placed(made))
        await session.flush()
        tags = [f"product:{line.product_id}" for line in made.lines]
        # Held from before the commit: nobody gets what was there, even if this process dies at it.
        async with self.cache.mutation(*tags, "products", f"orders:{made.user_id}"):
            await session.commit()
        return OrderOut.model_validate(made)

    async def order(self, session: AsyncSession, user_id: int, order_id: int) -> OrderOut:
        """Show one order of a user, or raise `NotFound`."""
        found = await queries.order(session, user_id, order_id)
        if found is None:
            raise NotFound(f"you have no order {order_id}")
        return OrderOut.model_validate(found)

    async def page(self, session: AsyncSession, user_id: int, which: Slice) -> Page[OrderOut]:
        """Show some orders of a user, the newest first."""
        found = await queries.of_user(session, user_id, which.offset, which.limit)
        items = [OrderOut.model_validate(each) for each in found]
        return Page(items=items, next=None, total=await queries.count(session, user_id))


def _product(line: LineIn) -> int:
    return line.product_id


def _placed(made: Order) -> OrderPlaced:
    lines = (Sold(product_id=line.product_id, quantity=line.quantity, price=line.price) for line in made.lines)
    return OrderPlaced(order_id=made.id, lines=tuple(lines))
