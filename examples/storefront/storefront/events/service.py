"""The events of one application, put together."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from storefront.database import Database
from storefront.events.bus import Bus, bus_of
from storefront.events.consumers import Consumers
from storefront.events.outbox import Outbox
from storefront.events.relay import Relay, meanwhile
from storefront.events.streams import Streams
from storefront.live import follower
from storefront.live.feed import Feed
from storefront.live.goodbye import before_the_end
from storefront.settings import Settings
from tiercel import Cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """Services write to the `outbox`; who stays and listens joins the `feed`."""

    outbox: Outbox
    feed: Feed
    bus: Bus
    relay: Relay
    streams: Streams | None

    @classmethod
    def made_for(cls, settings: Settings, database: Database, cache: Cache) -> "Events":
        """Make what these settings describe. It connects to nothing."""
        feed, outbox = Feed(per_address=settings.live_per_address), Outbox()
        bus, streams = bus_of(settings, database, Consumers(database=database, cache=cache), feed)
        relay = Relay(database=database, outbox=outbox, bus=bus, sweep=settings.events_sweep)
        return cls(outbox=outbox, feed=feed, bus=bus, relay=relay, streams=streams)

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        """Forward what is committed here, and hear what others have changed, while this is entered."""
        async with AsyncExitStack() as opened:
            if self.streams is not None:
                opened.push_async_callback(self.streams.aclose)
                begun = await follower.begin(self.streams, self.feed)
                following = follower.follow(self.streams, self.feed, begun=begun)
                await opened.enter_async_context(meanwhile(following))
            await opened.enter_async_context(self.relay.open())
            opened.enter_context(before_the_end(self.feed.close))
            yield
