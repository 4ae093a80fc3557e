"""Whether this process lives, and whether it can work: for whoever starts and stops it. Never cached."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from storefront.errors import Unavailable
from storefront.parts import Parts

State = Literal["ok", "unreachable"]


class Health(BaseModel):
    """That it lives."""

    status: Literal["ok"]


class Readiness(BaseModel):
    """What this process needs, and how it is."""

    database: State
    store: State


def router(parts: Parts) -> APIRouter:
    """Build the routes of one application."""
    routes = APIRouter(tags=["operations"])

    @routes.get("/healthz")
    async def read_health(response: Response) -> Health:
        """Answer, if this process can."""
        response.headers["Cache-Control"] = "no-store"
        return Health(status="ok")

    @routes.get("/readyz", responses={503: {"model": Readiness, "description": "The database is out of reach."}})
    async def read_readiness(
        session: Annotated[AsyncSession, Depends(parts.database.session)], response: Response
    ) -> Readiness:
        """Ask the database and the store of the cache. Without the store we are slower, and still there: 200."""
        response.headers["Cache-Control"] = "no-store"
        found = Readiness(database=await _database(session), store=await _store(parts))
        response.status_code = 200 if found.database == "ok" else 503
        return found

    return routes


async def _database(session: AsyncSession) -> State:
    try:
        await session.execute(text("SELECT 1"))
    except (SQLAlchemyError, Unavailable):
        return "unreachable"
    return "ok"


async def _store(parts: Parts) -> State:
    ack = await parts.cache.invalidate("readyz", durable=False)
    return "ok" if ack.durable else "unreachable"
