"""Whether the tables are those that this release works with."""

from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from storefront.database import Database


class WrongTables(Exception):  # noqa: N818 - read as "raise WrongTables"
    """The database lacks migrations that this release needs."""


def migrations() -> Config:
    """Make Alembic's configuration, without a file."""
    config = Config()
    config.set_main_option("script_location", "storefront:migrations")
    return config


async def check(database: Database) -> None:
    """See that no migration of ours is missing, or raise `WrongTables`.

    A revision that this release does not know is of a later one: while that is rolled out, both work side by side.
    """
    script = ScriptDirectory.from_config(migrations())
    async with database.engine.connect() as connection:
        found = await connection.run_sync(_revision)
    known = {step.revision for step in script.walk_revisions()}
    needed = script.get_current_head()
    if found is None or (found in known and found != needed):
        raise WrongTables(
            f"The database is at revision {found or 'none'}, and this release needs {needed}. "
            "Run `python -m storefront.load`."
        )


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
