"""`redis://`: a store that all hosts share, in Redis ≥ 6.2 or Valkey.

The log, the cuts and the promises are in one hash slot, each key's variants and lease in another:

    tiercel:{namespace}        epoch, head of the log, when everything was cut        …:log   …:t:<tag>   …:holds
    tiercel:{namespace:key}    :r rows, :b their bytes, :l:<lane> who produces it

Two connections. On the one everything is asked; each question is one script, which judges what it finds by the cuts in
the same step. The other follows the log: an answer to it proves that everything is known here that was appended before
it was asked for, and memory is trusted for Δ after that. It goes on where it was: nothing is lost with a connection.

A server that was started since, or another one in its place, may lack cuts that were acknowledged. Each connection is
greeted, which finds that out: then a new epoch begins, and nothing that was stored before is of any use.
"""

import asyncio
import contextlib
import logging
import os
import platform
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any, Final

from tiercel._core.events import Event, Failed, Unreadable
from tiercel.errors import StoreError
from tiercel.spi import Ask, Cut, Found, Log, Parcel
from tiercel.stores.redis import _scripts as scripts
from tiercel.stores.redis._cluster import Cluster
from tiercel.stores.redis._line import AGAIN, EXPECTED, Line
from tiercel.stores.redis._places import (
    Command,
    Connection,
    MovedError,
    Place,
    RedisError,
    is_cluster,
    nodes,
    opened,
    place,
    shown,
)
from tiercel.stores.redis._rows import is_due, of_promise, of_record, to_found, to_judge, to_row, with_verdict
from tiercel.stores.redis._scripts import Script

_log = logging.getLogger("tiercel")

DELTA: Final = 1.0
"""Seconds for which memory is trusted without proof."""
BLOCK: Final = 0.25
"""Seconds that the tail waits for a record; then it asks again, for an answer proves something, too."""
AT_ONCE: Final = 1_000
"""Records that are read at once."""
HELD: Final = 1.0
"""Seconds after which the lease of a process that has died ends."""
_BOOT: Final = getattr(time, "CLOCK_BOOTTIME", None)
_now: Final = time.monotonic if _BOOT is None else partial(time.clock_gettime, _BOOT)
"""Seconds, counted also while the machine sleeps, where it can: what was proved before is too old after that."""


class RedisStore:
    """A store in a server.

    Args:
        url: `redis://`, `rediss://`, `unix://`, `redis+sentinel://host:port,host:port/service`, or
            `redis+cluster://host:port,host:port`.
        namespace: Keeps the keys of one service apart from another's.

    Raises:
        ConfigurationError: The URL cannot be read.

    Example:
        >>> from tiercel.stores.redis import RedisStore
        >>> RedisStore("redis://127.0.0.1:6379/0").delta
        1.0
    """

    def __init__(self, url: str, *, namespace: str = "tiercel") -> None:
        self.delta = DELTA
        self._where = shown(url)
        self._cluster: Cluster | None = None
        if is_cluster(url):
            seeds, connect = nodes(url)
            cluster = Cluster(seeds, lambda address: connect(address, scripts.load), self._where, self._ended)
            self._cluster = cluster
            self._place = Place(lambda: connect(cluster.address(self._control), self._greet))
        else:
            self._place = place(url, self._greet)
        self._namespace = namespace
        self._control = f"tiercel:{{{namespace}}}".encode("utf-8", "surrogatepass")
        self._name = ""
        self._line = Line(self._place.connection, self._where, self._ended)
        self._log: Log | None = None
        self._tell: Callable[[Event], None] = _untold
        self._epoch = b""
        self._since = -inf
        """When this process learnt of the epoch."""
        self._position = 0
        """Of the tail: the last record that it has read."""
        self._asof = -inf
        self._last = 0
        """The last record that this process has appended."""
        self._longest = (0, 0)
        """What is born from this id on may be kept for so many milliseconds; longer than what came before."""
        self._before = 0
        self._leases: dict[bytes, tuple[bytes, float]] = {}

    def running(self, log: Log, tell: Callable[[Event], None]) -> AbstractAsyncContextManager[None]:
        """Be open while this is entered."""
        return self._running(log, tell)

    @asynccontextmanager
    async def _running(self, log: Log, tell: Callable[[Event], None]) -> AsyncGenerator[None]:
        self._log, self._tell, self._epoch, self._asof = log, tell, b"", -inf
        self._position = self._last = 0
        self._leases = {}
        self._name = f"{platform.node()}:{os.getpid()}:{secrets.token_hex(2)}"
        line = self._line = Line(self._place.connection, self._where, self._ended)
        works = [asyncio.create_task(self._line.run(), name="tiercel redis")]
        try:
            if self._cluster is not None:
                await self._cluster.learn()
            await self._line.ask("PING")
            works.append(asyncio.create_task(self._follow(), name="tiercel redis tail"))
            works.append(asyncio.create_task(self._renew(), name="tiercel redis leases"))
            await self._proved()
            yield
        finally:
            if self._line is line:  # whoever has opened it since goes on
                self._log = None
            for work in works:
                work.cancel()
            await asyncio.wait(works)
            await self._place.aclose()
            if self._cluster is not None:
                await self._cluster.aclose()

    async def _proved(self) -> None:
        """Wait until the log is followed."""
        try:
            async with asyncio.timeout(DELTA):
                while not self.current():  # noqa: ASYNC110 - a matter of milliseconds
                    await asyncio.sleep(0.001)
        except TimeoutError:
            message = f"{self._where}: the log could not be followed within {DELTA} s"
            raise StoreError(message) from None

    # -- what is stored ----------------------------------------------------------------------------------------------

    async def fetch(self, ask: Ask) -> Found:
        """Find what is stored, or get leave to produce it."""
        token = secrets.token_bytes(16) if ask.lease else b""
        lease = self._lane(ask.key, ask.lane)
        fields = [part for field in ask.fields.items() for part in field]
        wanted = max(1, _lasting(ask.lease)) if ask.lease else 0
        given: Command = (self._epoch, ask.above, repr(ask.early), wanted, token, *fields)
        answer = await self._ask_for(scripts.FETCH, [*self._shelf(ask.key), lease], *given)
        if self._cluster is not None:
            answer = await self._judged(ask, answer, lease, token)
        found, unreadable = to_found(answer, token)
        if found.lease is not None:
            self._leases[lease] = (token, _now() + ask.lease)
        if unreadable:
            self._tell(Unreadable(where=self._where, reason="damaged", key=ask.key.hex()))
        return found

    async def put(self, key: bytes, lane: bytes, parcel: Parcel | None, lease: bytes | None) -> None:
        """Store a parcel, and give the lease back."""
        held, epoch, shelf = self._lane(key, lane), self._epoch, self._shelf(key)
        self._leases.pop(held, None)
        row = (b"",) if parcel is None else to_row(parcel, await self._retention(parcel))
        given: Command = (epoch, lease or b"", *row)
        _, *full = await self._ask_for(scripts.PUT, [*shelf, held], *given)
        if full and (gone := await self._cut_of(full[0])):
            await self._ask_for(scripts.DROP, shelf, *gone)
            await self._ask_for(scripts.PUT, [*shelf, held], *given)

    async def _cut_of(self, rows: list[Any]) -> list[bytes]:
        """Which of these variants have been cut, of which a server of a cluster cannot know."""
        given = to_judge((born, tags) for _, born, tags in rows)
        _, _, verdicts = await self._ask(scripts.JUDGE, [self._control], self._epoch, *given)
        return [row[0] for row, said in zip(rows, verdicts, strict=True) if said == b"gone"]

    async def _judged(self, ask: Ask, answer: list[Any], lease: bytes, token: bytes) -> list[Any]:
        """What a server of a cluster has found, as the one that keeps the log sees it."""
        ok, _, granted, wait, unreadable, names, rows = answer
        if not rows:
            return [ok, max(self._position, self._last), *answer[2:]]
        given = to_judge((row[2], row[6]) for row in rows)
        judged = await self._ask(scripts.JUDGE, [self._control], self._epoch, *given)
        rows = [with_verdict(row, said) for row, said in zip(rows, judged[2], strict=True) if said != b"gone"]
        if ask.lease and not granted and not wait and is_due(rows, ask.early):
            _, granted, wait = await self._ask_for(scripts.LEASE, [lease], token, max(1, _lasting(ask.lease)))
        return [ok, judged[1], granted, wait, unreadable, names, rows]

    async def _retention(self, parcel: Parcel) -> float:
        """How long it may be kept: no longer than the cuts that may hit it."""
        wanted = int(parcel.retain_for * 1_000)
        if wanted > self._longest[1]:
            before = self._allowed(parcel.born)
            answer = await self._ask(scripts.LENGTHEN, [self._control], self._epoch, wanted)
            self._before, self._longest = before, (int(answer[2]), int(answer[1]))
        return min(parcel.retain_for, self._allowed(parcel.born) / 1_000)

    def _allowed(self, born: int) -> int:
        since, longest = self._longest
        return longest if born >= since else self._before

    # -- what is cut -------------------------------------------------------------------------------------------------

    async def append(self, tags: Sequence[str], *, soft: bool = False) -> int:
        """Cut tags; no tags: everything of the namespace."""
        given: Command = (int(soft), b"", *map(_encoded, tags))
        return int((await self._cut(scripts.APPEND, given, Cut(id=0, tags=tuple(tags), soft=soft)))[1])

    async def hold(self, tags: Sequence[str], seconds: float) -> bytes:
        """Cut these tags and hold them, for so many seconds at the most."""
        given: Command = (int(seconds * 1_000_000), *map(_encoded, tags))
        _, hold, promise = await self._cut(scripts.HOLD, given, Cut(id=0, tags=tuple(tags), holds=True))
        return b"%d %b" % (hold, promise)

    async def release(self, token: bytes, tags: Sequence[str]) -> int:
        """Make the cut that was promised, whether or not it has been made before."""
        hold, _, promise = token.partition(b" ")
        made = Cut(id=0, tags=tuple(tags), releases=int(hold))
        return int((await self._cut(scripts.APPEND, (0, promise), made))[1])

    async def applied(self, cut: int, within: float) -> tuple[str, ...]:
        """Wait until each process has applied the cut, or has been silent for so long that it does not trust itself."""
        deadline = _now() + within
        while True:
            answer = await self._ask(scripts.WITNESSES, [self._control], self._epoch)
            late = [name.decode() for name, position, age in answer[1] if position < cut and age < DELTA * 1_000_000]
            if _now() - self._since <= DELTA:  # until then some may trust what they knew of the one before
                late.append("whoever has not heard of the new log")
            if not late:
                return tuple(sorted(name.decode() for name, _, _ in answer[1]))
            if _now() > deadline:
                message = f"{self._where}: {', '.join(late)} did not apply cut {cut} within {within} s"
                raise StoreError(message)
            await asyncio.sleep(0.01)

    def current(self) -> bool:
        """Whether all is known that was cut until Δ ago."""
        return self._log is not None and _now() - self._asof <= DELTA

    async def _cut(self, script: Script, given: Command, made: Cut) -> list[Any]:
        """The answer of a script that appends a record, which is applied here under the id that it got."""
        known = max(self._position, self._last)
        answer = await self._ask(script, [self._control], self._epoch, *given)
        cut = int(answer[1])
        if cut <= known:
            self._line.drop()
            message = f"{self._where}: the log ended before what is known of it; the server has lost its end"
            raise StoreError(message)
        if self._log is not None:
            self._log.apply([replace(made, id=cut)], cut)
            self._last = max(self._last, cut)
        return answer

    # -- asking ------------------------------------------------------------------------------------------------------

    async def _ask_for(self, script: Script, keys: Sequence[bytes], *given: bytes | str | int) -> list[Any]:
        """The answer of a script over one key, which has the log beside it if that is in the same server."""
        if self._cluster is None:
            there = [*keys, self._control] if script in {scripts.FETCH, scripts.PUT} else keys
            return await self._ask(script, there, *given)
        self._check_open()
        epoch = self._epoch
        answer = await self._cluster.ask(keys[0], "EVALSHA", script.digest, len(keys), *keys, *given)
        self._check_same(epoch)
        return list(answer)

    async def _ask(self, script: Script, keys: Sequence[bytes], *given: bytes | str | int) -> list[Any]:
        """The answer of a script, which is one of the epoch that it was asked in."""
        self._check_open()
        epoch = self._epoch
        try:
            answer = await self._line.ask("EVALSHA", script.digest, len(keys), *keys, *given)
        except StoreError as error:
            self._misdirected(error.__cause__)
            raise
        self._check_same(epoch)
        if answer[0] != b"ok":
            self._line.drop()
            message = f"{self._where}: the server has lost what it knew, or is another one"
            raise StoreError(message)
        return list(answer)

    def _check_same(self, epoch: bytes) -> None:
        """Ids of another log mean nothing, and what was done there binds nobody."""
        if self._epoch != epoch:
            message = f"{self._where}: another log has begun before the answer came"
            raise StoreError(message)

    def _check_open(self) -> None:
        if self._log is None:
            message = f"{self._where}: the store is not open"
            raise StoreError(message)

    def _misdirected(self, error: BaseException | None) -> None:
        """The log is in another server by now."""
        if self._cluster is not None and isinstance(error, MovedError):
            self._cluster.moved(error, self._cluster.address(self._control))
            self._line.drop()

    def _ended(self, error: Exception) -> None:
        """A connection has ended by something that nobody is told of who has asked."""
        if not isinstance(error, EXPECTED):
            why = f"{type(error).__name__}: {error}"
            self._tell(Failed(where=self._where, error=StoreError(f"a connection is given up: {why}")))

    async def _greet(self, connection: Connection) -> None:
        """Before anything is asked on a connection: find out whether the log is the one that is known here."""
        await scripts.load(connection)
        known = (secrets.token_hex(8), self._epoch, max(self._position, self._last))
        await connection.send_command("EVALSHA", scripts.GREET.digest, 1, self._control, *known)
        epoch, head, longest, policy, held = await connection.read_response()
        if self._log is None or epoch == self._epoch:
            return
        self._epoch, self._position, self._last, self._asof, self._since = epoch, int(head), 0, -inf, _now()
        self._before, self._longest = int(longest), (0, int(longest))
        self._begin_anew(self._log, int(head), held)
        if policy.startswith(b"allkeys"):
            why = "may evict the invalidations, which is a cold cache: set maxmemory-policy to volatile-lru"
            self._tell(Failed(where=self._where, error=StoreError(f"its policy {policy.decode()} {why}")))
            _log.warning("%s: its policy %s %s.", self._where, policy.decode(), why)

    # -- the tail ----------------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        failing = False
        while True:
            try:
                connection = self._place.connection()
                try:
                    await opened(connection)
                    while await self._read_on(connection):
                        failing = False
                finally:
                    with contextlib.suppress(RedisError, OSError):
                        await connection.disconnect(nowait=True)
            except Exception as error:  # noqa: BLE001 - whatever it is, the log is followed again
                await self._find_again(error)
                if not failing:  # once, until it works again
                    why = str(error) or type(error).__name__
                    self._tell(Failed(where=self._where, error=StoreError(f"the log cannot be followed: {why}")))
                failing = True
            await asyncio.sleep(AGAIN)

    async def _find_again(self, error: Exception) -> None:
        """Whoever had the log may be gone, or another one has it."""
        self._misdirected(error)
        if self._cluster is not None:
            with contextlib.suppress(StoreError):  # told as what it follows from
                await self._cluster.learn()

    async def _read_on(self, connection: Connection) -> bool:
        """Read what comes next; whether it was the log that is known here."""
        sent, epoch = _now(), self._epoch
        tend: Command = ("EVALSHA", scripts.TEND.digest, 1, self._control, epoch, self._name, self._position)
        patience: Command = ("BLOCK", int(BLOCK * 1_000)) if self.current() else ()
        after: Command = (self._control + b":log", f"{self._position}-0")
        read: Command = ("XREAD", *patience, "COUNT", AT_ONCE, "STREAMS", *after)
        await connection.send_packed_command(connection.pack_commands([tend, read]), check_health=False)
        async with asyncio.timeout(BLOCK + DELTA):
            tended = await connection.read_response()
            streams = await connection.read_response()
        if tended[0] != b"ok" or self._log is None or self._epoch != epoch:
            return False
        records = [of_record(*record) for record in streams[0][1]] if streams else []
        if records and records[0].id == self._position + 1:
            self._log.apply(records, records[-1].id, since=self._position)
            self._position = records[-1].id
        elif records or self._position < tended[1]:  # the log was trimmed; or has gone, and what was appended with it
            held = await self._holds(connection)
            if self._epoch != epoch:
                return False
            position = records[-1].id if records else tended[1]
            self._begin_anew(self._log, position, held)
            self._position = position
        if self._position >= tended[1]:
            self._asof = sent
        return True

    async def _holds(self, connection: Connection) -> list[Any]:
        """What is held; asked for until nothing that this process has done meanwhile can be missing."""
        while True:
            last = self._last
            await connection.send_command("EVALSHA", scripts.HELD.digest, 1, self._control)
            async with asyncio.timeout(DELTA):
                held: list[Any] = await connection.read_response()
            if last == self._last:
                return held

    def _begin_anew(self, log: Log, position: int, held: Sequence[Any]) -> None:
        """What was known is of no use; but for what is being changed."""
        log.reset(position)
        log.apply([of_promise(*promise) for promise in held], position)

    async def _renew(self) -> None:
        """Leases are short, so that one of a process that has died ends soon; of one that lives they are renewed."""
        while True:
            await asyncio.sleep(HELD / 4)
            moment = _now()
            self._leases = {lane: held for lane, held in self._leases.items() if moment < held[1]}
            asked = [
                self._ask_for(scripts.RENEW, [lane], token, _lasting(HELD)) for lane, (token, _) in self._leases.items()
            ]
            await asyncio.gather(*asked, return_exceptions=True)  # one that ends early costs somebody a computation

    def _shelf(self, key: bytes) -> tuple[bytes, bytes]:
        shelf = self._control[:-1] + b":" + key.hex().encode() + b"}"
        return shelf + b":r", shelf + b":b"

    def _lane(self, key: bytes, lane: bytes) -> bytes:
        return self._control[:-1] + b":" + key.hex().encode() + b"}:l:" + lane.hex().encode()


def _lasting(seconds: float) -> int:
    """Milliseconds of a lease."""
    return int(min(seconds, HELD) * 1_000)


def _encoded(tag: str) -> bytes:
    return tag.encode("utf-8", "surrogatepass")


def _untold(_: Event) -> None: ...
