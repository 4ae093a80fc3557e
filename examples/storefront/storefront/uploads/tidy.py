"""Removes what no row speaks of: `python -m storefront.uploads.tidy`.

That is what processes leave which die between writing a file and committing its row. Of rows whose file is gone it
tells: a disk has lost them, for nothing that we do can.
"""

import asyncio
import sys
from contextlib import aclosing
from time import time
from typing import NamedTuple

from rich.console import Console

from storefront.database import Database
from storefront.settings import Settings, settings_of_the_environment
from storefront.uploads import queries
from storefront.uploads.shelf import Shelf

YOUNGEST = 3600
"""Seconds: what is younger may be an upload whose row is not committed yet."""


class Tidied(NamedTuple):
    """What was removed, and what should be there and is not."""

    removed: set[str]
    lost: set[str]


def main() -> None:
    """Tidy up by the environment's settings, and say what was done; exit with 1 where files are lost."""
    settings = settings_of_the_environment()
    found = asyncio.run(tidy(settings))
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"removed {len(found.removed)} files that belong to nothing")
    for blob in sorted(found.lost):
        console.print(f"lost: {settings.uploads / blob}")
    sys.exit(1 if found.lost else 0)


async def tidy(settings: Settings) -> Tidied:
    """Remove the files that no row speaks of and that are not new."""
    shelf = Shelf(settings.uploads, patience=settings.upload_time)
    async with aclosing(Database(settings.database_url)) as database, database.sessions() as session:
        # In this order: whatever was here before the rows were read is named by one of them, or by none ever.
        old = await shelf.unchanged_since(time() - YOUNGEST)
        known = await queries.blobs(session)
    await shelf.remove(old - known)
    return Tidied(old - known, await shelf.lacks(known))


if __name__ == "__main__":
    main()
