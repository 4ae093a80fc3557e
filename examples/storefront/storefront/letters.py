"""Dead letters, events that have failed too often: `python -m storefront.letters [replay [ID...]]`."""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import aclosing

from rich.console import Console

from storefront.database import Database
from storefront.events.service import Events
from storefront.settings import Settings, settings_of_the_environment
from tiercel import Cache

USAGE = "python -m storefront.letters shows dead letters; ... replay has all of them tried again, or those of these IDs"


def main() -> None:
    """Show the dead letters, or have them tried again."""
    match sys.argv[1:]:
        case []:
            asyncio.run(show(settings_of_the_environment(), Console()))
        case ["replay", *letters]:
            asyncio.run(replay(settings_of_the_environment(), Console(), letters))
        case _:
            sys.exit(USAGE)


async def show(settings: Settings, console: Console) -> None:
    """Print each with why it has failed."""
    async with aclosing(_Office(settings)) as office:
        letters = await office.events.bus.letters()
    for letter in letters:
        console.print(f"{letter.id}  {letter.attempts} attempts  {letter.error}", markup=False, soft_wrap=True)
        console.print(f"    {letter.event}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"{len(letters)} dead letters", highlight=False)


async def replay(settings: Settings, console: Console, chosen: Sequence[str]) -> None:
    """Have them tried again from the beginning, all or those that are chosen, and say which were."""
    async with aclosing(_Office(settings)) as office:
        bus = office.events.bus
        for letter in chosen or [each.id for each in await bus.letters()]:
            done = await bus.replay(letter)
            console.print(f"{letter}: {'is tried again' if done else 'there is no such letter'}", highlight=False)


class _Office:
    """The parts of the application that letters need."""

    def __init__(self, settings: Settings) -> None:
        self._database = Database(settings.database_url)
        self.events = Events.made_for(settings, self._database, Cache())

    async def aclose(self) -> None:
        if self.events.streams is not None:
            await self.events.streams.aclose()
        await self._database.aclose()


if __name__ == "__main__":
    main()
