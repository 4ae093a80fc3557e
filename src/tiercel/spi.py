"""What others may plug in: clocks, observers and stores; and the events that observers are told of."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from tiercel._core.entry import Selecting
from tiercel._core.events import Answered, Discarded, Event, Failed, Invalidated, Stored, Unreadable

__all__ = [
    "Answered",
    "Ask",
    "Clock",
    "Coherent",
    "Cut",
    "Discarded",
    "Event",
    "Failed",
    "Found",
    "Holds",
    "Invalidated",
    "Kept",
    "Log",
    "Observer",
    "Parcel",
    "Store",
    "Stored",
    "Unreadable",
    "Witnesses",
]


class Clock(Protocol):
    """Where time comes from. `tiercel.testing.VirtualClock` is one whose time a test moves.

    Example:
        >>> from tiercel import Cache, Clock
        >>> from tiercel.testing import VirtualClock
        >>> clock: Clock = VirtualClock()
        >>> cache = Cache(clock=clock)
    """

    def time(self) -> float:
        """Seconds since the Unix epoch: what stored responses are dated with.

        Example:
            >>> from tiercel.clock import SystemClock
            >>> SystemClock().time() > 1_700_000_000
            True
        """
        ...

    def monotonic(self) -> float:
        """Seconds that never step back: what durations are measured with.

        Example:
            >>> from tiercel.clock import SystemClock
            >>> clock = SystemClock()
            >>> clock.monotonic() <= clock.monotonic()
            True
        """
        ...


class Observer(Protocol):
    """Told of what happened.

    Called synchronously: on the event loop, and in the threads that call memoised functions. Return quickly. What it
    raises is logged, and changes nothing.

    Example:
        >>> from tiercel import Cache
        >>> class Printing:
        ...     def on_event(self, event: object) -> None:
        ...         print(type(event).__name__)
        >>> cache = Cache(observers=[Printing()])
        >>> import asyncio
        >>> ack = asyncio.run(cache.invalidate("products"))
        Invalidated
    """

    def on_event(self, event: Event) -> None:
        """Take one event of the closed union `tiercel.spi.Event`.

        Args:
            event: What happened.

        Example:
            >>> from tiercel.spi import Answered, Event
            >>> class Counting:
            ...     hits = 0
            ...     def on_event(self, event: Event) -> None:
            ...         match event:
            ...             case Answered(result="hit"):
            ...                 self.hits += 1
        """
        ...


# -- stores ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """One record of the invalidation log.

    Args:
        id: Strictly increasing. Compared as a number, and with nothing but other ids of the same log.
        tags: What is invalidated; none: everything.
        soft: Stale from now on, rather than unusable.
        holds: It is about to be changed: what is made from now on is unusable, too, until another cut releases it.
        releases: Id of the cut whose hold is over; 0: of none.

    Example:
        >>> Cut(id=7, tags=("products",)).soft
        False
    """

    id: int
    tags: tuple[str, ...]
    soft: bool = False
    holds: bool = False
    releases: int = 0


class Log(Protocol):
    """What a store tells a process of invalidations; the engine's own."""

    @property
    def position(self) -> int:
        """Id of the last cut that was applied here."""
        ...

    @property
    def floor(self) -> int:
        """What was born before it is unusable here, unless the store has looked its tags up."""
        ...

    def apply(self, cuts: Sequence[Cut], position: int, *, since: int | None = None) -> None:
        """Apply what has been appended to the log, in its order, whoever has. Twice is as good as once.

        Args:
            cuts: The records after `position` of the log as it was known here.
            position: Id of the last record of the log now.
            since: Of what was appended after this id, up to `position`, these are all that concern this namespace;
                None: there may be others, as with a cut of our own that comes ahead of those before it.
        """
        ...

    def reset(self, position: int) -> None:
        """Forget everything: records were lost, or it is another log. Begin anew at `position`.

        The holds that are not over there are applied next, in the same turn.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """One stored response or value, as a store keeps it. Durations in seconds, from the moment it is put.

    Args:
        selecting: The request fields that select it, sorted: name, and digest or None where the field was absent.
            Two parcels under a key are variants of each other where these differ, and one replaces the other where not.
        born: Id of the last cut that was applied before its production began.
        tags: Whatever an invalidation can name.
        fresh_for: How long it is fresh.
        retain_for: How long it is of any use; then the store lets go of it.
        cost: How long it took to produce; weighs early refresh.
        blob: Its bytes, which mean nothing to the store.
    """

    selecting: Selecting = ()
    born: int
    tags: tuple[str, ...] = ()
    fresh_for: float
    retain_for: float
    cost: float = 0.0
    blob: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a process wants of a key: what is stored, or leave to produce it.

    Args:
        key: The primary key.
        fields: Request fields by name, as digests: a parcel answers where each of its selecting fields has the same
            digest here, and each that was absent is not here.
        lane: Those with the same lane want the same variant, as far as is known: one of them produces it.
        lease: Seconds after which the lease ends by itself; 0.0: a lease is not wanted.
        above: Only what was born after this id counts as found. -1: whatever there is.
        early: Refresh early by so many times the cost of production: `-ln(draw)` of XFetch; 0.0: never.
    """

    key: bytes
    fields: Mapping[bytes, bytes]
    lane: bytes = b""
    lease: float = 0.0
    above: int = -1
    early: float = 0.0


class Kept(NamedTuple):
    """A parcel that was found."""

    parcel: Parcel
    age: float
    """Seconds since it was put, by the clock of the store."""
    soft: bool
    """Whether it has been cut softly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What there is, and whose turn it is.

    Args:
        kept: The variants that answer, fresh or stale, none of them cut hard. Newest first.
        at: Id of the last cut that was considered: what was found is as good as if it had been born then.
        names: All fields that select under the key.
        lease: The token of a lease that has been granted: produce it, then `put` with this token.
        wait: Seconds until the lease of whoever produces it ends at the latest; 0.0: nobody does, or what there is is
            fresh.
    """

    kept: tuple[Kept, ...] = ()
    at: int = 0
    names: frozenset[bytes] = frozenset()
    lease: bytes | None = None
    wait: float = 0.0


@runtime_checkable
class Store(Protocol):
    """A place that several processes share: what is stored, the log of invalidations, leases.

    What every method keeps to:

    - What cannot be done raises `StoreError` and nothing else; what is stored stays. No method waits on its own account
      for longer than its connection does, and none tries again: deadlines and patience are the caller's.
    - What cannot be read (another version, garbage) is not found, and an event (`Unreadable`).
    - No clock of one machine is compared with that of another.
    - Leases save work. Nothing depends on them: whoever has none may `put`, too.

    `tiercel.testing.StoreContract` tells whether a store keeps this contract. What more it can do it says by further
    methods: `Coherent`, `Witnesses`, `Holds`.

    Example:
        >>> from tiercel import Cache, Store
        >>> from tiercel.testing import SimulatedServer, SimulatedStore
        >>> store: Store = SimulatedStore(SimulatedServer())
        >>> cache = Cache(store)
    """

    def running(self, log: Log, tell: Callable[[Event], None]) -> AbstractAsyncContextManager[None]:
        """Be open while this is entered. Inside, the store tells `log` of every cut, in the order of their ids.

        Entered, `log` is at the end of the shared log: there, `reset`. Of earlier records it is told those whose holds
        are not over.

        Args:
            log: Told of cuts.
            tell: Told of events.

        Raises:
            ConfigurationError: It cannot be where it is said to be.
            StoreError: It does not answer.

        Example:
            >>> from tiercel.testing import RecordingLog, SimulatedServer, SimulatedStore, run_virtual
            >>> async def open_and_close() -> int:
            ...     log = RecordingLog()
            ...     async with SimulatedStore(SimulatedServer()).running(log, print):
            ...         return log.resets
            >>> run_virtual(open_and_close())
            1
        """
        ...

    async def fetch(self, ask: Ask) -> Found:
        """Find what is stored; else be granted the lease to produce it, or be told how long another's may last.

        - Nothing is found whose tags have been cut hard since it was born, in this process or any other, if that was
          acknowledged before this call. (One that fell out of the log with its cut counts as cut.)
        - Nothing is found whose tags are held (`Holds`), whenever it was born.
        - A lease is granted where one is wanted, nobody holds it, and either nothing fresh is found or what is found is
          to be refreshed early. In one step: of any number of processes one gets it. What was cut softly is not fresh.
        - A lease whose holder is known to be dead is nobody's.

        Args:
            ask: What is wanted.

        Raises:
            StoreError: It was not done.

        Example:
            >>> async def hottest(store: Store, key: bytes) -> bytes | None:
            ...     found = await store.fetch(Ask(key=key, fields={}))
            ...     return found.kept[0].parcel.blob if found.kept else None
        """
        ...

    async def put(self, key: bytes, lane: bytes, parcel: Parcel | None, lease: bytes | None) -> None:
        """Store a parcel, unless there is none or one that was born later; give the lease back.

        A key that has 64 usable variants takes no other; what is stored stays (`Found.kept` never grows beyond that).

        Args:
            key: The primary key.
            lane: As it was asked for.
            parcel: What to store; None: nothing, only the lease is over.
            lease: The token of the lease; None where there was none.

        Raises:
            StoreError: It was not done, or nobody knows.

        Example:
            >>> async def give_up(store: Store, key: bytes, lease: bytes) -> None:
            ...     await store.put(key, b"", None, lease)
        """
        ...

    async def append(self, tags: Sequence[str], *, soft: bool = False) -> int:
        """Append a cut to the log; its id, once it is as durable as it can be made.

        From then on no process finds what it cut. It is applied to this process's `log` before this returns.

        Args:
            tags: What is invalidated; none: everything of the namespace.
            soft: Stale from now on, rather than unusable.

        Raises:
            StoreError: It was not done, or nobody knows.

        Example:
            >>> async def forget(store: Store) -> int:
            ...     return await store.append([])
        """
        ...


@runtime_checkable
class Coherent(Protocol):
    """A store that keeps every process's log up to date, so that its memory tier may stand in front of it."""

    @property
    def delta(self) -> float:
        """Δ: seconds after which no process's memory yields what has been cut, whatever fails. 0.0: at once."""
        ...

    def current(self) -> bool:
        """Whether everything acknowledged up to `delta` seconds ago has been applied to `log`.

        Called for every hit in memory: about 0.1 µs. A store that finds out by looking applies what is missing first.
        """
        ...


@runtime_checkable
class Witnesses(Protocol):
    """A store that knows the other processes: `wait="all"`."""

    async def applied(self, cut: int, within: float) -> tuple[str, ...]:
        """Wait until each live process has applied a cut or stopped trusting its memory; which ones they are.

        Raises:
            StoreError: One has done neither within so many seconds.
        """
        ...


@runtime_checkable
class Holds(Protocol):
    """A store that remembers that something is about to be changed: `Cache.mutation`."""

    async def hold(self, tags: Sequence[str], seconds: float) -> bytes:
        """Cut these tags, and hold them: what is made of them is unusable until they are released. Returns a token.

        They are released all the same if `release` is not called in so many seconds: whoever dies in between leaves no
        old value behind. Tags may be held by several at a time. It is a record of the log (`Cut.holds`), applied to
        this process's `log` before this returns.
        """
        ...

    async def release(self, token: bytes, tags: Sequence[str]) -> int:
        """Cut the tags, and hold them no more; the id of the cut (`Cut.releases`).

        Also if it has been made before: the change took longer, then.
        """
        ...
