"""Run by Alembic: applies the steps over an async engine, all in one transaction."""

import asyncio
from contextlib import aclosing

from alembic import context
from sqlalchemy import Connection

import storefront.accounts.models
import storefront.catalogue.models
import storefront.events.models
import storefront.orders.models
import storefront.reviews.models
import storefront.sales.models
import storefront.uploads.models
from storefront.database import Database, Model
from storefront.settings import Settings

TABLES = (
    storefront.accounts.models,
    storefront.catalogue.models,
    storefront.events.models,
    storefront.orders.models,
    storefront.reviews.models,
    storefront.sales.models,
    storefront.uploads.models,
)
"""Named so that they are imported: then the metadata knows them, and `alembic check` compares them."""


def _apply(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        # SQLite can undo DDL, but the driver opens no transaction for it: without this a step could be left half done.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    context.configure(
        connection=connection, target_metadata=Model.metadata, render_as_batch=True, transactional_ddl=True
    )
    with context.begin_transaction():
        context.run_migrations()


async def _connect() -> None:
    settings = context.config.attributes.get("settings") or Settings()
    async with aclosing(Database(settings.database_url)) as database, database.engine.begin() as connection:
        await connection.run_sync(_apply)


asyncio.run(_connect())
