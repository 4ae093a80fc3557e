"""A model of everything that may happen to a cache, played at random.

Two properties, whatever is asked, invalidated, cancelled or broken, in whatever order:

- P: no read that begins after an invalidation has returned gets what was produced from data older than that.
- Nothing is served beyond its lifetime and the window that the situation allows.

And then: every answer is whole or visibly broken, is of the variant that was asked for, and nothing is left behind.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from drive import Scope, Send, Shop, Visit, turns
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tiercel._core.entry import Header
from tiercel._core.keys import group_tag
from tiercel.testing import VirtualLoop

LIFETIME, WHILE_REVALIDATE, IF_ERROR = 10, 5, 30
SOFT = 2.0

GROUPS = {"/a": {"x"}, "/b": {"x", "y"}}
VARIANTS = (b"1", b"2")
BEHAVIOURS = ("whole", "slow", "streams", "refuses", "breaks", "errs", "forbids", "validates", "late-group", "large")


class TroubleError(Exception):
    """What the application of the model raises."""


class Data:
    """What responses are made of; an invalidation follows each change."""

    def __init__(self) -> None:
        self.version = dict.fromkeys(GROUPS, 0)
        self.behaviour = "whole"
        self.calls = 0

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:  # noqa: C901 - one answer per behaviour
        self.calls += 1
        behaviour, path = self.behaviour, scope["path"]
        version = self.version[path]  # read at once: whatever is changed from now on is not in the answer
        variant = next(value for name, value in scope["headers"] if name == b"variant")
        if behaviour in {"slow", "breaks", "late-group", "validates"}:
            await asyncio.sleep(3)
        if behaviour == "refuses":
            raise TroubleError
        if behaviour == "errs":
            await self._say(send, 503, [], [b"error"])
            return
        etag, now = b'"%d-%b"' % (version, variant), asyncio.get_running_loop().time()
        groups = b", ".join(b'"%b"' % group.encode() for group in sorted(GROUPS[path]))
        headers = [
            (b"cache-control", b"max-age=10, stale-while-revalidate=5, stale-if-error=30"),
            (b"vary", b"variant"),
            (b"cache-groups", groups),
            (b"x-confirmed", b"%f" % now),
        ]
        if behaviour == "validates":
            headers.append((b"etag", etag))
            if (b"if-none-match", etag) in scope["headers"]:
                await self._say(send, 304, headers, [])
                return
        if behaviour == "forbids":
            headers[0] = (b"cache-control", b"no-store")
        parts = [b"%d %b %b" % (version, path.encode(), variant), b" end"]
        if behaviour == "large":
            parts = [parts[0], *[b" " * 200_000] * 8, parts[1]]
        if scope["method"] == "HEAD":
            parts = []
        await self._say(
            send, 200, headers, parts, pace=behaviour in {"streams", "breaks", "large"}, breaks=behaviour == "breaks"
        )

    async def _say(  # noqa: PLR0913 - a response, and how it comes
        self,
        send: Send,
        status: int,
        headers: list[Header],
        parts: list[bytes],
        *,
        pace: bool = False,
        breaks: bool = False,
    ) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
            if pace:
                await asyncio.sleep(1)
            if breaks:
                raise TroubleError
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class Asked:
    """A request, and what was true when it began."""

    def __init__(self, visit: Visit, path: str, variant: bytes, method: str, version: int) -> None:
        self.visit = visit
        self.path = path
        self.variant = variant
        self.method = method
        self.version = version
        self.stalled = False


class Model(RuleBasedStateMachine):
    """Plays."""

    data: Data
    shop: Shop

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualLoop)
        self.runner.get_loop().set_exception_handler(self._lost)
        self.lost: list[object] = []
        self.waiting: list[Asked] = []

    def _lost(self, _: object, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), TroubleError):
            self.lost.append(context)

    def play(self, step: Callable[[], Coroutine[Any, Any, None] | None]) -> None:
        """One step, and whatever follows from it before time passes."""

        async def played() -> None:
            step_ = step()
            if step_ is not None:
                await step_
            await turns(30)
            self._settle()

        self.runner.run(played())

    @initialize(
        behaviours=st.lists(st.sampled_from(BEHAVIOURS), min_size=1, max_size=3),
        paths=st.sampled_from([["/a"], ["/b"], sorted(GROUPS)]),
        variants=st.sampled_from([VARIANTS[:1], VARIANTS]),
        random=st.sampled_from([0.0, 0.5, 0.999]),
    )
    def open(self, behaviours: list[str], paths: list[str], variants: Sequence[bytes], random: float) -> None:
        """Not everything in one play: what has to come together would hardly ever do so."""
        self.behaviours, self.paths, self.variants = behaviours, paths, variants

        def make() -> None:
            self.data = Data()
            self.shop = Shop(self.data, soft=SOFT, hard=20.0, draw=random, bound=4_000_000)

        self.play(make)

    # -- what may happen -----------------------------------------------------------------------------------------

    @rule(data=st.data(), method=st.sampled_from(["GET", "GET", "GET", "HEAD"]), count=st.integers(1, 3))
    def ask(self, data: st.DataObject, method: str, count: int) -> None:
        behaviour = data.draw(st.sampled_from(self.behaviours))
        path, variant = data.draw(st.sampled_from(self.paths)), data.draw(st.sampled_from(self.variants))

        def step() -> None:
            self.data.behaviour = behaviour
            for _ in range(count):
                visit = self.shop.ask(path, method=method, headers=[(b"variant", variant)])
                self.waiting.append(Asked(visit, path, variant, method, self.data.version[path]))

        self.play(step)

    @rule(what=st.sampled_from(["x", "y", "/a", "/b", "x softly", "everything"]))
    def invalidate(self, what: str) -> None:
        self.play(lambda: self._invalidate(what))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), how=st.sampled_from(["cancel", "hang up", "stall"]))
    def disturb(self, data: st.DataObject, how: str) -> None:
        asked = data.draw(st.sampled_from(self.waiting))
        visit, task = asked.visit, asked.visit.task
        assert task is not None

        def step() -> None:
            match how:
                case "cancel":
                    task.cancel()
                case "hang up":
                    visit.hung_up.set()
                case _:
                    visit.reads.clear()
                    asked.stalled = True

        self.play(step)

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.5, 8.0, 11.0, 16.0, 45.0]))
    def wait(self, seconds: float) -> None:
        async def played() -> None:
            await asyncio.sleep(seconds)
            self._settle()

        self.runner.run(played())

    @rule()
    def come_to_rest(self) -> None:
        """Once nothing happens any more, everybody gets what is true."""
        self.data.behaviour = "whole"

        async def played() -> None:
            await self._rest()
            for path in GROUPS:
                for variant in VARIANTS:
                    await self.shop.get(path, (b"variant", variant))
                    await turns(30)
                    visit = await self.shop.get(path, (b"variant", variant))
                    assert int(visit.body.split()[0]) == self.data.version[path]
                    assert visit.said == "hit"

        self.runner.run(played())

    # -- what has to be ------------------------------------------------------------------------------------------

    async def _invalidate(self, what: str) -> None:
        """When it returns, that is acknowledged."""
        if what == "everything":
            self._change(lambda _: True)
            self.shop.engine.cut_all()
        elif what == "x softly":
            self.shop.engine.cut([group_tag("http", b"shop", "x")], soft=True)
        elif what.startswith("/"):
            await self._write(lambda path: path == what, None, what)
        else:
            await self._write(lambda path: what in GROUPS[path], f'"{what}"', "/elsewhere")

    def _change(self, hit: Callable[[str], bool]) -> None:
        for path in GROUPS:
            self.data.version[path] += hit(path)

    async def _write(self, hit: Callable[[str], bool], group: str | None, path: str) -> None:
        """A write changes the data, then invalidates."""
        origin = self.shop.origin

        async def writing(scope: Scope, receive: Any, send: Send) -> None:
            if scope["method"] != "POST":
                await origin(scope, receive, send)
                return
            self._change(hit)
            headers = [] if group is None else [(b"cache-group-invalidation", group.encode())]
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body"})

        self.shop.app.app = writing
        await self.shop.get(path, method="POST")
        self.shop.app.app = origin

    def _settle(self) -> None:
        for asked in [asked for asked in self.waiting if asked.visit.task is not None and asked.visit.task.done()]:
            self.waiting.remove(asked)
            self._check(asked)
        assert not self.lost

    def _check(self, asked: Asked) -> None:
        visit, task = asked.visit, asked.visit.task
        assert task is not None
        if task.cancelled():
            return
        if task.exception() is not None:
            assert isinstance(task.exception(), TroubleError | ConnectionError), task.exception()
            assert not visit.ended
            return
        if not visit.ended:
            assert visit.hung_up.is_set()
            return
        if visit.status != 200:
            assert visit.status in {503, 504}
            return
        if asked.method == "HEAD":
            assert visit.body == b""
            return
        version, path, variant, end = visit.body.split()
        assert (path.decode(), variant, end) == (asked.path, asked.variant, b"end")
        assert int(version) >= asked.version, "P"
        if not asked.stalled:  # else nobody knows when its answer was decided
            self._check_age(visit)

    def _check_age(self, visit: Visit) -> None:
        age = visit.times[0] - float(visit.header(b"x-confirmed") or b"-inf")
        if visit.said == "hit":
            assert age < LIFETIME + WHILE_REVALIDATE
        elif "soft-time-limit" in visit.said or "stale-if-error" in visit.said:
            assert age < LIFETIME + IF_ERROR
        else:
            assert age <= LIFETIME + WHILE_REVALIDATE

    async def _rest(self) -> None:
        for asked in self.waiting:
            asked.visit.reads.set()
        await asyncio.sleep(1000)
        self._settle()
        assert not self.waiting
        await self.shop.at_rest()

    def teardown(self) -> None:
        try:
            if hasattr(self, "shop"):
                self.runner.run(self._rest())
        finally:
            self.runner.close()


Model.TestCase.settings = settings(max_examples=400, stateful_step_count=40, deadline=None)
TestModel = Model.TestCase
