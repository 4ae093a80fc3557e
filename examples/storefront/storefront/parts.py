"""What one application is made of. Its factory makes the parts, its lifespan opens and closes them."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass

import httpx

from storefront import schema
from storefront.accounts.guard import Guard, guard
from storefront.accounts.identity import remembered
from storefront.accounts.passwords import Passwords
from storefront.accounts.service import Accounts
from storefront.accounts.tokens import Tokens
from storefront.currencies import bank
from storefront.currencies.bank import RatesOf
from storefront.database import Database
from storefront.events.service import Events
from storefront.exports.service import Exports
from storefront.graphql.service import Graph
from storefront.metrics import Metrics
from storefront.orders.service import Orders
from storefront.reviews.service import Reviews
from storefront.settings import Settings
from storefront.throttle import Throttle, per_user
from storefront.uploads.service import Uploads
from storefront.uploads.shelf import Shelf
from storefront.workshop import Workshop
from tiercel import Cache, Clock
from tiercel.sqlalchemy import listening, track


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of one application, which share nothing with those of another. To make them connects to nothing."""

    settings: Settings
    database: Database
    cache: Cache
    http: httpx.AsyncClient
    accounts: Accounts
    guard: Guard
    throttle: Throttle
    limited: Callable[..., Awaitable[None]]
    workshop: Workshop
    rates_of: RatesOf
    events: Events
    orders: Orders
    reviews: Reviews
    uploads: Uploads
    exports: Exports
    graph: Graph
    metrics: Metrics

    @classmethod
    def made_for(cls, settings: Settings, *, clock: Clock | None = None) -> "Parts":
        """Make the parts that these settings describe; the cache reads this clock, if there is one."""
        database = Database(settings.database_url, pool=settings.database_pool)
        tokens = Tokens(secret=settings.secret.get_secret_value(), lifetime=settings.token_lifetime)
        metrics = Metrics()
        metrics.watch(database.engine.sync_engine, pool=settings.database_pool)
        cache = Cache(
            settings.cache_url,
            memory=settings.cache_memory,
            store_timeout=settings.cache_timeout,
            clock=clock,
            observers=[metrics],
        )
        if settings.track:
            track(database.engine, cache)
        accounts = Accounts(
            passwords=Passwords(),
            tokens=tokens,
            cache=cache,
            identity_of=remembered(cache, database),
            lifetime=settings.session_lifetime,
        )
        http = httpx.AsyncClient(timeout=5)
        events = Events.made_for(settings, database, cache)
        let_in, throttle = guard(accounts), Throttle(settings.rate_url)
        return cls(
            settings=settings,
            database=database,
            cache=cache,
            http=http,
            accounts=accounts,
            guard=let_in,
            throttle=throttle,
            limited=per_user(let_in, throttle, settings.rate_user),
            workshop=Workshop(),
            rates_of=bank.remembered(cache, http, settings),
            events=events,
            orders=Orders(cache=cache, outbox=events.outbox),
            reviews=Reviews(cache=cache),
            uploads=Uploads(cache=cache, shelf=Shelf(settings.uploads, patience=settings.upload_time)),
            # The other half of the connections is for everything else, however slowly exports are read.
            exports=Exports(at_once=max(1, settings.database_pool // 2)),
            metrics=metrics,
            graph=Graph(production=settings.environment == "production"),
        )

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        """Be open while this is entered. What has been opened is closed, last first, also where the next one fails.

        The cache is not among them: `cache.install` opens it before all this, and closes it after.
        """
        async with AsyncExitStack() as opened:
            await opened.enter_async_context(aclosing(self.metrics))
            await opened.enter_async_context(aclosing(self.database))
            await opened.enter_async_context(self.http)
            await opened.enter_async_context(aclosing(self.throttle))
            await opened.enter_async_context(aclosing(self.workshop))
            await schema.check(self.database)
            if self.settings.track and self.database.engine.dialect.name == "postgresql":
                await opened.enter_async_context(listening(self.database.engine))
            await opened.enter_async_context(self.events.open())
            yield
