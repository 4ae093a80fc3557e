"""`Cache`: what a program holds in its hand. Puts the parts together, and decides nothing itself."""

import importlib
import os
import platform
import random
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, Never, TypeVar, Unpack, cast

from tiercel._core.policy import Duration, Policy
from tiercel._engine import explain, settings
from tiercel._engine.blobs import Blobs
from tiercel._engine.endpoint import Declaration, declaration_of, declare
from tiercel._engine.engine import Engine, Limits
from tiercel._engine.explain import Explanation, Surface
from tiercel._engine.memoize import Memoizer, endpoint_of
from tiercel._engine.named import Named
from tiercel._engine.recall import Recall
from tiercel._engine.reports import Ack, Stats, stats_of
from tiercel._engine.settings import PolicyFields
from tiercel.clock import SystemClock
from tiercel.errors import ConfigurationError, NotAcknowledged
from tiercel.spi import Clock, Observer, Store

Function = TypeVar("Function", bound=Callable[..., Any])


class Cache:
    """Stored responses and values, and everything that may be done with them.

    Args:
        url: Where they live. `memory://`, the default: in this process; among the workers of `tiercel serve`, in a
            directory that they share, unless this is given. `local:///path`: in a directory that all processes of the
            host share, which survives restarts of the service. `redis://`, `rediss://`, `unix://`,
            `redis+sentinel://host:port/service` or `redis+cluster://host:port`: in Redis or Valkey, which all hosts
            share. Or a `Store` of your own.
        memory: Bound of the memory tier in bytes, or as text: `"256MB"`, `"1GiB"`.
        namespace: Keeps the keys of one service apart from another's.
        clock: Where time comes from; the machine's, unless a test brings its own.
        observers: Told of what happens. What one raises is logged, and changes nothing.
        jitter: The share of a `ttl` that is taken off at random, 0 to 1: a thousand keys do not fall due together.
        soft_timeout: Seconds after which a stale response is served instead of waiting longer, where
            `stale_if_error` allows that. None: wait.
        hard_timeout: Seconds after which a fill that has not begun its answer is given up: stale, or 504; and after
            which nobody joins the running call of a function any more. None: never.
        draw: Where randomness comes from: a function that returns numbers in [0, 1).
        store_size: Bound of a shared store in bytes, or as text.
        store_timeout: Seconds that a request waits for a shared store, all in all; then it does without.
        compress: What clients get compressed if they want it: `"off"`, nothing; `"public"`, what is for everyone;
            `"all"`, also what may be for one user. With gzip, and with zstd and brotli where these are installed.
        compress_above: Bodies of more bytes, a number or text, are compressed with zstd in a shared store. None: none.
        secret: What is put into a shared store is signed with it, and what is not signed is not read; of several, the
            first signs, and all are good for reading. At least 16 characters each.

    Raises:
        ConfigurationError: A setting cannot work; the message says which, and what to give instead.

    Example:
        >>> from tiercel import Cache
        >>> cache = Cache(memory="64MB")
        >>> @cache.memoize(ttl="5m")
        ... def square(number: int) -> int:
        ...     return number * number
        >>> square(4), square(4), cache.stats().hits
        (16, 16, 1)
    """

    def __init__(  # noqa: PLR0913 - one argument per setting of the table in docs/settings.md
        self,
        url: str | Store | None = None,
        *,
        memory: int | str = "256MB",
        namespace: str = "tiercel",
        clock: Clock | None = None,
        observers: Iterable[Observer] = (),
        jitter: float = 0.05,
        soft_timeout: Duration | None = 1.0,
        hard_timeout: Duration | None = 60.0,
        draw: Callable[[], float] = random.random,
        store_size: int | str = "1GiB",
        store_timeout: Duration = 0.05,
        compress: Literal["off", "public", "all"] = "off",
        compress_above: int | str | None = None,
        secret: str | Iterable[str] | None = None,
    ) -> None:
        self.engine = Engine(
            bound=settings.size(memory, "Cache(memory=)"),
            clock=clock or SystemClock(),
            limits=Limits(
                soft=settings.limit(soft_timeout, "Cache(soft_timeout=)"),
                hard=settings.limit(hard_timeout, "Cache(hard_timeout=)"),
                jitter=settings.share(jitter, "Cache(jitter=)"),
            ),
            random=draw,
            observers=settings.told(observers, "Cache(observers=)"),
        )
        """What the surfaces of Tiercel are built on. Not for programs: it changes without notice."""
        said = settings.compression(compress, "Cache(compress=)")
        if said != "off":
            self.engine.compress(private=said == "all")
        size = settings.size(store_size, "Cache(store_size=)")
        deadline = settings.patience(store_timeout, "Cache(store_timeout=)")
        blobs = Blobs(
            settings.secrets(secret, "Cache(secret=)"),
            compress_above=settings.threshold(compress_above, "Cache(compress_above=)"),
        )

        def live(place: str | Store) -> None:
            store = place if isinstance(place, Store) else _store(place, namespace, size)
            if store is not None:
                self.engine.share(store, deadline=deadline, blobs=blobs)

        live("memory://" if url is None else url)
        self.engine.place = live if url is None else None
        self.declarations: list[Declaration] = []
        """What was declared with this cache so far; for its surfaces."""
        self.surfaces: list[Surface] = []
        """Where it was installed so far; they add themselves."""
        self._recall = Recall(self.engine)
        self._memoizer = Memoizer(self._recall, namespace=namespace)
        self._named = Named(self.engine, self._recall, namespace=namespace)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **given: Any) -> "Cache":  # noqa: ANN401 - as `Cache`
        """A cache with settings from the environment.

        Each is `TIERCEL_` and the name of the argument in capitals: `TIERCEL_URL`, `TIERCEL_MEMORY`, … but for those
        that no text can say. An empty variable is as good as none.

        Args:
            environ: Instead of the environment of the process.
            given: Arguments of `Cache`, which the program decides itself; they win over the environment.

        Raises:
            ConfigurationError: A variable cannot be read, or is none of these.

        Example:
            >>> Cache.from_env({"TIERCEL_MEMORY": "32MB"}).stats().bound
            32000000
        """
        return cls(**{**settings.from_environment(os.environ if environ is None else environ), **given})

    # -- declarations ------------------------------------------------------------------------------------------------

    def response(self, *given: Never, **policy: Unpack[PolicyFields]) -> Callable[[Function], Function]:
        """Store the responses of a route. Stands below the decorator of the route.

        Args:
            given: Nothing: everything is named.
            policy: The fields of `Policy`; `ttl` is required.

        Raises:
            ConfigurationError: A field cannot work. What only the route can tell is found at start-up.

        Example:
            >>> from fastapi import FastAPI
            >>> app, cache = FastAPI(), Cache()
            >>> cache.install(app)
            >>> @app.get("/products/{product_id}")
            ... @cache.response(ttl=60, tags="product:{product_id}")
            ... async def read_product(product_id: int) -> dict[str, int]:
            ...     return {"id": product_id}
        """
        return self._declaring(settings.policy_of("response", given, policy), ())

    def invalidates(self, *tags: str) -> Callable[[Function], Function]:
        """Invalidate tags when the endpoint has returned, unless what it returned is a response with an error.

        Before the reply leaves, and once more when the dependencies of the request have been closed, for that is when
        many sessions commit. An endpoint that raises invalidates nothing.

        Args:
            tags: Templates over the arguments of the endpoint: `"product:{product_id}"`.

        Raises:
            ConfigurationError: There are no tags. Unknown names in templates are found at start-up.

        Example:
            >>> from fastapi import FastAPI
            >>> app, cache = FastAPI(), Cache()
            >>> cache.install(app)
            >>> @app.put("/products/{product_id}")
            ... @cache.invalidates("product:{product_id}", "products")
            ... async def update_product(product_id: int) -> None: ...
        """
        if not tags:
            message = '@cache.invalidates() invalidates nothing. Name some tags: @cache.invalidates("products").'
            raise ConfigurationError(message)
        return self._declaring(None, settings.names(tags, "@cache.invalidates"))

    def memoize(self, *given: Never, **policy: Unpack[PolicyFields]) -> Callable[[Function], Function]:
        """Store what a function returns, by its arguments. Asynchronous or not; dependencies and methods, too.

        Values go by the return annotation, and every caller gets one of its own, so that changing it changes nothing
        for the others. Simultaneous calls with the same arguments run once, and share what it raises, which is not
        stored. An asynchronous function runs in a task of its own, which no caller's cancellation reaches; a
        synchronous one in the thread of the first who calls it.

        Args:
            given: Nothing: everything is named.
            policy: `ttl` (required), `stale_while_revalidate`, `stale_if_error`, `tags`, and `key`: a callable over the
                arguments that returns what stands for them in the key.

        With a shared store the values of asynchronous functions are shared, if they come back from MessagePack exactly
        as they were; an invalidation reaches all of them.

        Raises:
            ConfigurationError: An argument cannot be part of a key, the return annotation cannot be stored, a tag names
                no argument, or a field of `Policy` is given that means nothing for a function.

        Example:
            >>> cache = Cache()
            >>> @cache.memoize(ttl="5m", tags="rates:{base}")
            ... async def load_rates(base: str) -> dict[str, float]:
            ...     return {"USD": 1.0}
        """
        declared = settings.policy_of("memoize", given, policy)

        def decorate(function: Function) -> Function:
            earlier = declaration_of(function)
            if earlier is None:
                return cast("Function", self._memoizer.memoized(function, declared))
            # Above @cache.response it would answer without it, and nobody would name the tags: they change places.
            inner = self._memoizer.memoized(endpoint_of(function, earlier), declared)
            return cast("Function", self._declared(inner, earlier.engine, earlier.policy, earlier.invalidates))

        return decorate

    def install(  # noqa: PLR0913 - DESIGN
        self,
        app: Any,  # noqa: ANN401 - FastAPI, which this module must not import
        *,
        mode: Literal["declared", "headers"] = "declared",
        default: Policy | None = None,
        obey_requests: bool = False,
        heuristic: bool = False,
        targets: Iterable[str] = (),
        shadow: bool = False,
    ) -> None:
        """Put the cache into a FastAPI application: middleware, lifespan, OpenAPI.

        Args:
            app: The application.
            mode: `declared`: only routes with `@cache.response` are stored. `headers`: whatever RFC 9111 permits.
            default: The policy of responses that say nothing themselves, in `headers` mode.
            obey_requests: Whether a request's own Cache-Control may ask the application for work.
            heuristic: Whether heuristic freshness is used (RFC 9111 §4.2.2), in `headers` mode.
            targets: The targeted fields that mean this cache (RFC 9213).
            shadow: The application always answers; Cache-Status says what the cache would have done.

        Raises:
            ConfigurationError: There is a cache on this application already. What is wrong with declarations is found
                when the application starts, or at its first request.

        Example:
            >>> from fastapi import FastAPI
            >>> app, cache = FastAPI(), Cache()
            >>> cache.install(app)
        """
        # The only arrow upwards: the façade knows its rim by name, so that `import tiercel` costs nothing of FastAPI.
        importlib.import_module("tiercel.fastapi").install(
            self,
            app,
            mode=mode,
            default=default,
            obey_requests=obey_requests,
            heuristic=heuristic,
            targets=tuple(targets),
            shadow=shadow,
        )

    # -- values ------------------------------------------------------------------------------------------------------

    async def get(self, key: str) -> Any:  # noqa: ANN401 - what was set
        """The value under a key; None where there is none.

        Example:
            >>> import asyncio
            >>> asyncio.run(Cache().get("greeting")) is None
            True
        """
        return await self._named.get(key)

    async def set(self, key: str, value: object, *, ttl: Duration, tags: str | Iterable[str] = ()) -> None:
        """Store a value: builtins, dates, UUIDs and the like, and containers of these.

        It replaces what was stored under the key, and what is just being made for it.

        Args:
            key: Its name.
            value: The value.
            ttl: How long it is fresh: seconds, timedelta or text such as `"5m"`.
            tags: What an invalidation can name.

        Raises:
            ConfigurationError: The ttl or a tag cannot be read.
            TypeError: The value cannot be stored; then nothing has changed.
            NotAcknowledged: A shared store could not be told that what was there is replaced.

        Example:
            >>> import asyncio
            >>> async def greet(cache: Cache) -> str:
            ...     await cache.set("greeting", "hello", ttl="1h")
            ...     return await cache.get("greeting")
            >>> asyncio.run(greet(Cache()))
            'hello'
        """
        await self._named.set(key, value, ttl=ttl, tags=tags)

    async def delete(self, key: str) -> Ack:
        """Forget the value under a key, also one that is just being made.

        Raises:
            NotAcknowledged: A shared store could not be told. In this process it is done; for the others it is queued.

        Example:
            >>> import asyncio
            >>> asyncio.run(Cache().delete("greeting")).durable
            True
        """
        return self._ack(await self._named.delete(key))

    async def get_or_set(
        self, key: str, factory: Callable[[], Any], *, ttl: Duration, tags: str | Iterable[str] = ()
    ) -> Any:  # noqa: ANN401 - what the factory returns
        """The value under a key, made by the factory where there is none: once, however many ask.

        Args:
            key: Its name.
            factory: Returns the value, or an awaitable of it. Its exceptions are raised here and not stored.
            ttl: How long it is fresh.
            tags: What an invalidation can name.

        Raises:
            ConfigurationError: The ttl or a tag cannot be read.
            TypeError: The value is of a class that only an annotation could describe. Use `memoize` for such.

        Example:
            >>> import asyncio
            >>> asyncio.run(Cache().get_or_set("numbers", lambda: [1, 2, 3], ttl=60))
            [1, 2, 3]
        """
        return await self._named.get_or_set(key, factory, ttl=ttl, tags=tags)

    async def write_through(
        self,
        key: str,
        value: object,
        writer: Callable[[Any], Any],
        *,
        ttl: Duration,
        tags: str | Iterable[str] = (),
    ) -> Ack:
        """Write a value to where it belongs, then store it.

        Whatever was stored is invalid from the moment at which the writer is called, also when it raises, for nobody
        knows then what it has done, and should this process die while it writes. Of two writes at the same time neither
        is stored: nobody knows which came first. Nor is one whose tags were invalidated meanwhile.

        Args:
            key: Its name.
            value: The value.
            writer: Called, and awaited where it can be, with the value. Its exceptions are raised here.
            ttl: How long it is fresh.
            tags: What an invalidation can name.

        Raises:
            ConfigurationError: The ttl or a tag cannot be read.
            TypeError: The value cannot be stored; then it was not written either.
            NotAcknowledged: A shared store could not be told: before, and nothing was written; or after it was.

        Example:
            >>> import asyncio
            >>> database: dict[str, int] = {}
            >>> async def save(limit: int) -> None:
            ...     database["limit"] = limit
            >>> asyncio.run(Cache().write_through("limit", 10, save, ttl="1h")).durable, database
            (True, {'limit': 10})
        """
        return self._ack(await self._named.write_through(key, value, writer, ttl=ttl, tags=tags))

    # -- invalidation ------------------------------------------------------------------------------------------------

    async def invalidate(
        self, *tags: str, soft: bool = False, wait: Literal["local", "all"] = "local", durable: bool = True
    ) -> Ack:
        """Invalidate everything under the tags. Final when it returns, also against what is being produced.

        Args:
            tags: Their names.
            soft: What is stored may still be served while one request renews it.
            wait: `all`: until every process that shares the store has applied it.
            durable: Whether to raise where a shared store could not be told; if not, `Ack.durable` says so. In this
                process it is done either way; for the others it is queued.

        Raises:
            ConfigurationError: A tag is no string, or empty.
            NotAcknowledged: A shared store could not be told.

        Example:
            >>> import asyncio
            >>> asyncio.run(Cache().invalidate("products")).durable
            True
        """
        named = settings.names(tags, "cache.invalidate")
        try:
            cut = await self.engine.invalidate(named, soft=soft)
            return self._ack(cut, await self.engine.applied(cut) if wait == "all" else ())
        except NotAcknowledged:
            if durable:
                raise
            return self._ack(self.engine.stamps.position, durable=False)

    async def clear(self) -> Ack:
        """Forget everything, also what is just being made.

        Raises:
            NotAcknowledged: A shared store could not be told. In this process it is done; for the others it is queued.

        Example:
            >>> import asyncio
            >>> asyncio.run(Cache().clear()).durable
            True
        """
        return self._ack(await self.engine.clear())

    @asynccontextmanager
    async def mutation(self, *tags: str) -> AsyncGenerator[None]:
        """Around a change: from its beginning to its end nothing that has these tags is used, nor stored.

        They are invalidated before it and after it, whether or not it has succeeded. Should this process die in
        between, a shared store ends it, half a minute later: until then nothing is stored, and nothing old is used.

        Args:
            tags: Their names.

        Raises:
            ConfigurationError: A tag is no string; before anything is changed.
            NotAcknowledged: The store could not be told; before or after. What the change itself raises goes before.

        Example:
            >>> async def rename(session, cache):
            ...     async with cache.mutation("product:42"):
            ...         await session.commit()
        """
        named = settings.names(tags, "cache.mutation")
        async with self.engine.mutation(named):
            yield

    # -- what it does ------------------------------------------------------------------------------------------------

    def stats(self) -> Stats:
        """What it has done so far, and what it holds.

        Example:
            >>> Cache(memory="64MB").stats().bound
            64000000
        """
        return stats_of(self.engine, missed=self._named.missed)

    def explain(self, request: Any) -> Explanation:  # noqa: ANN401 - a request of any framework, or a scope
        """What would be done with a request now, and why; nothing is changed by asking.

        Args:
            request: A Starlette or FastAPI request, or an ASGI scope.

        Raises:
            ConfigurationError: It is neither, or the routes of the application are declared in a way that cannot work.

        Example:
            >>> from fastapi import FastAPI, Request
            >>> app, cache = FastAPI(), Cache()
            >>> cache.install(app)
            >>> @app.get("/why")
            ... async def why(request: Request) -> str:
            ...     return cache.explain(request).decision
        """
        return explain.explain(self.engine, self.surfaces, request)

    async def open(self) -> None:
        """Open the shared store, where there is one. An installed application does this when it starts.

        Without it the store is opened when it is first needed.

        Raises:
            ConfigurationError: The store cannot be where it is said to be.
            StoreError: It does not answer.

        Example:
            >>> import asyncio
            >>> asyncio.run(Cache().open())
        """
        if self.engine.depot is not None:
            await self.engine.depot.open()

    async def aclose(self) -> None:
        """End what runs in the background, and close the store. An installed application does this at its own end.

        The cache can be used, and closed, again.

        Example:
            >>> import asyncio
            >>> asyncio.run(Cache().aclose())
        """
        await self.engine.background.aclose()
        await self._recall.aclose()
        if self.engine.depot is not None:
            await self.engine.depot.aclose()

    def _ack(self, cut: int, applied: tuple[str, ...] = (), *, durable: bool = True) -> Ack:
        own = f"{platform.node()}:{os.getpid()}"
        return Ack(id=self.engine.stamps.shared(cut), durable=durable, applied=applied or (own,))

    def _declaring(self, policy: Policy | None, invalidates: tuple[str, ...]) -> Callable[[Function], Function]:
        def decorate(endpoint: Function) -> Function:
            return cast("Function", self._declared(endpoint, self.engine, policy, invalidates))

        return decorate

    def _declared(
        self, endpoint: Callable[..., Any], engine: Engine, policy: Policy | None, invalidates: tuple[str, ...]
    ) -> Callable[..., Any]:
        """What FastAPI is given instead of an endpoint."""
        stand_in, declaration = declare(endpoint, engine=engine, policy=policy, invalidates=invalidates)
        self.declarations.append(declaration)
        return stand_in


def _store(url: str, namespace: str, size: int) -> Store | None:
    """The store at a place; none where that is this process."""
    place = settings.place(url, "Cache(url=)")
    if place.kind == "memory":
        return None
    # Imported where it is needed only: its package is an extra.
    module, store = importlib.import_module(f"tiercel.stores.{place.kind}"), None
    if place.kind == "local":
        store = module.LocalStore(Path(place.path), size=size, namespace=namespace)
    else:
        store = module.RedisStore(place.path, namespace=namespace)
    return cast("Store", store)
