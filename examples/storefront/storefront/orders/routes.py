"""Orders over HTTP."""

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Depends, Header, Path, Query, Response, Security
from fastapi.responses import PlainTextResponse
from sqlalchemy.ext.asyncio import AsyncSession

from storefront.accounts.identity import Identity
from storefront.orders import receipts
from storefront.orders.schemas import OrderIn, OrderOut, Slice
from storefront.paging import Page
from storefront.parts import Parts
from storefront.reference.document import answers

Key = Annotated[str, Header(alias="Idempotency-Key", min_length=8, max_length=64, pattern=r"^[\x21-\x7e]+$")]


def router(parts: Parts) -> APIRouter:
    """Build the routes of one application. Each user sees and buys their own."""
    routes = APIRouter(tags=["orders"])
    per_request = Depends(parts.database.session)
    limited = Depends(parts.limited)
    who = Security(parts.guard.current_user)

    @routes.post("/orders", status_code=201, dependencies=[limited], responses=answers(409))
    async def place_order(
        wanted: OrderIn,
        idempotency_key: Key,
        user: Annotated[Identity, who],
        session: Annotated[AsyncSession, per_request],
        response: Response,
    ) -> OrderOut:
        """Buy something. Send it again under the same key when no answer came: it is bought once."""
        placed, found = await parts.orders.place(session, user.id, idempotency_key, wanted)
        if found:
            response.headers["Idempotent-Replayed"] = "true"
        return placed

    # `user.id`: a token may change, the user stays.
    @routes.get("/orders", dependencies=[limited])
    @parts.cache.response(ttl="5m", tags="orders:{user.id}", per="user.id")
    async def list_orders(
        which: Annotated[Slice, Query()], user: Annotated[Identity, who], session: Annotated[AsyncSession, per_request]
    ) -> Page[OrderOut]:
        """List your orders, the newest first."""
        return await parts.orders.page(session, user.id, which)

    @routes.get("/orders/{order_id}")
    @parts.cache.response(ttl="5m", tags="orders:{user.id}", per="user.id")
    async def read_order(
        order_id: Annotated[int, Path(ge=1, lt=2**31)],
        user: Annotated[Identity, who],
        session: Annotated[AsyncSession, per_request],
    ) -> OrderOut:
        """Read one of your orders."""
        return await parts.orders.order(session, user.id, order_id)

    # What is done in the background belongs to the making of an answer: a hit makes none, so nothing is noted twice.
    @routes.get("/orders/{order_id}/receipt", response_class=PlainTextResponse)
    @parts.cache.response(ttl="1d", tags="orders:{user.id}", per="user.id")
    async def read_receipt(
        order_id: Annotated[int, Path(ge=1, lt=2**31)],
        user: Annotated[Identity, who],
        session: Annotated[AsyncSession, per_request],
        later: BackgroundTasks,
    ) -> str:
        """Read the receipt of one of your orders. It is noted in the books that one was drawn up."""
        order = await parts.orders.order(session, user.id, order_id)
        later.add_task(receipts.note, order)
        return receipts.receipt(order)

    return routes
