"""Makes the database ready: `python -m storefront.load`.

Applies the migrations, loads the catalogue, and in `dev` adds three users to try. What is there already stays as it is.
Whatever is cached was read before that, so it is forgotten, in all processes that share a store.
"""

import asyncio
import csv
import gzip
import sys
from collections.abc import Iterator, Mapping
from contextlib import aclosing
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from alembic import command
from alembic.config import Config
from rich.console import Console
from rich.progress import track
from sqlalchemy import func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from storefront import schema
from storefront.accounts.models import User
from storefront.accounts.passwords import Passwords
from storefront.catalogue.models import Product
from storefront.database import Database
from storefront.settings import Settings, settings_of_the_environment
from tiercel import Cache, NotAcknowledged

BATCH = 2_000
"""Rows per statement."""

DEMO_USERS = (
    {"name": "alice", "full_name": "Alice", "password": "wonderland", "scopes": "products:write"},
    {"name": "bob", "full_name": "Bob", "password": "christmas", "scopes": ""},
    {"name": "queen", "full_name": "The Queen", "password": "croquet", "scopes": "users:write", "role": "admin"},
)
"""For `dev` only: everybody can read these passwords."""


class Loaded(NamedTuple):
    """How many rows were added, and how many there are now."""

    products_added: int
    users_added: int
    products: int


def main() -> None:
    """Make the database of the environment's settings ready, and say what was done."""
    console = Console()
    settings = settings_of_the_environment()
    began = perf_counter()
    try:
        loaded = load(settings, console)
    except NotAcknowledged as error:
        sys.exit(
            f"The catalogue is loaded, but the cache may still answer from before: {error}\nLoad again when it is back."
        )
    seconds = perf_counter() - began
    console.print(
        f"added {loaded.products_added:,} products and {loaded.users_added} users in {seconds:.1f} s;"
        f" the catalogue has {loaded.products:,} products",
        highlight=False,
        soft_wrap=True,
    )


def load(settings: Settings, console: Console) -> Loaded:
    """Apply the migrations, then add what is missing, in one transaction: all of it or nothing."""
    command.upgrade(alembic_config(settings), "head")
    loaded = asyncio.run(_add(settings, console))
    asyncio.run(_forget_cached(settings))
    return loaded


def alembic_config(settings: Settings) -> Config:
    """Make Alembic's configuration for these settings."""
    config = schema.migrations()
    config.attributes["settings"] = settings
    return config


async def _add(settings: Settings, console: Console) -> Loaded:
    async with aclosing(Database(settings.database_url)) as database, database.engine.begin() as connection:
        products_added = await _add_products(connection, settings.catalogue, console)
        users_added = await _add_demo_users(connection) if settings.environment == "dev" else 0
        if connection.dialect.name == "postgresql":
            # The data set brings its ids; the sequence goes on after them.
            await connection.execute(
                select(
                    func.setval(
                        func.pg_get_serial_sequence("products", "id"), select(func.max(Product.id)).scalar_subquery()
                    )
                )
            )
        # The planner chooses its indexes by these counts.
        await connection.execute(text("ANALYZE"))
        products = await connection.scalar(select(func.count()).select_from(Product))
    return Loaded(products_added, users_added, products or 0)


async def _forget_cached(settings: Settings) -> None:
    async with aclosing(Cache(settings.cache_url, store_timeout=5)) as cache:
        await cache.clear()
        await cache.invalidate("everything", wait="all")  # of the log: who has applied this has applied the clear


async def _add_products(connection: AsyncConnection, catalogue: Path, console: Console) -> int:
    present = set(await connection.scalars(select(Product.id)))
    missing = [row for row in rows(catalogue) if row["id"] not in present]
    starts = range(0, len(missing), BATCH)
    for start in track(starts, "loading diamonds", console=console, disable=not console.is_terminal):
        await connection.execute(insert(Product), missing[start : start + BATCH])
    return len(missing)


async def _add_demo_users(connection: AsyncConnection) -> int:
    present = set(await connection.scalars(select(User.name)))
    passwords = Passwords()
    missing = [
        {
            "name": user["name"],
            "full_name": user["full_name"],
            "password_hash": passwords.hashed(user["password"]),
            "scopes": user["scopes"],
            "role": user.get("role", "customer"),
        }
        for user in DEMO_USERS
        if user["name"] not in present
    ]
    if missing:
        await connection.execute(insert(User), missing)
    return len(missing)


def rows(catalogue: Path) -> Iterator[Mapping[str, object]]:
    """Read the data set. It knows no stock: each stone is one of a kind, so there is one."""
    with gzip.open(catalogue, "rt", encoding="ascii", newline="") as lines:
        for row in csv.DictReader(lines):
            yield {
                "id": int(row["id"]),
                "cut": row["cut"],
                "color": row["color"],
                "clarity": row["clarity"],
                "price": int(row["price"]),
                **{name: float(row[name]) for name in ("carat", "depth", "table", "x", "y", "z")},
                "stock": 1,
                "version": 1,
            }


if __name__ == "__main__":
    main()
