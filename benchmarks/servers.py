"""Servers under test: on free loopback ports and one core, ended by process id; and the load on them."""

import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

from benchmarks import environments
from benchmarks.processes import HOST, PATIENCE, Running, Started, free_port, python_module, said, started
from benchmarks.rows import Budget, Row, Run
from benchmarks.shop import REDIS

CONNECTIONS = 32
LOOKS = 100
"""Answers that are looked at, of each peer, before and after."""
RANDOM_KEYS = Path(__file__).with_name("random_keys.lua")
HIT = re.compile(r"; hit\b")

_rate = re.compile(r"Requests/sec:\s*([\d.]+)")
_count = re.compile(r"(\d+) requests in ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A server to be measured."""

    name: str
    command: Callable[[int, int], Sequence[str]]
    """Its command line, by its port and that of its origin, 0 where it has none."""
    hits: bool = False
    """Whether it is to answer from its cache, which its Cache-Status must say."""
    budgets: tuple[Budget, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """What it is told beyond the environment of this process."""
    origin: "Peer | None" = None
    """What it stands in front of; started before it, and told to the command by its port."""
    rival: bool = False
    """Whether it is another cache in the application, which counts the calls of its handler."""
    alone: bool = False
    """Whether it has no processes of its own: the system may kill it, even while it is stopped."""
    missing: str = ""
    """Why it is not here, if it is not."""

    def told(self, environment: Mapping[str, str]) -> "Peer":
        """The same, and what is in front of the same, with this in the environment."""
        origin = None if self.origin is None else self.origin.told(environment)
        return replace(self, environment={**self.environment, **environment}, origin=origin)


class Load(NamedTuple):
    """Requests per second: of the clock, and of the server's CPU time. The same while it has its core to itself."""

    by_clock: float
    by_cpu: float


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


# -- who ---------------------------------------------------------------------------------------------------------------


_OPTIONS = ("--factory", "--no-access-log", "--log-level", "warning", "--host", HOST)


def uvicorn(  # noqa: PLR0913 - what may be different from one peer to the next
    name: str,
    factory: str,
    *,
    hits: bool = False,
    budgets: tuple[Budget, ...] = (),
    workers: int = 1,
    environment: Mapping[str, str] | None = None,
) -> Peer:
    """An application of `benchmarks.apps` under uvicorn, as most people run it."""
    several = ["--workers", str(workers)] if workers > 1 else []
    command = python_module("uvicorn", f"benchmarks.apps:{factory}", *_OPTIONS, *several)
    return Peer(
        name=name,
        command=lambda port, _: [*command, "--port", str(port)],
        hits=hits,
        budgets=budgets,
        environment=environment or {},
    )


def rival(name: str, package: str, factory: str, server: str = "") -> Peer:
    """An application of `benchmarks.peers` under uvicorn, in the environment of that package; on this Redis, if any."""
    try:
        interpreter = environments.python(package)
    except environments.NotInstalled as error:
        return Peer(name=name, command=lambda _, __: (), rival=True, missing=f"not installed: {error}")
    module = f"with_{package.replace('-', '_')}"
    command = python_module("uvicorn", f"benchmarks.peers.{module}:{factory}", *_OPTIONS, interpreter=interpreter)
    return Peer(
        name=name,
        command=lambda port, _: [*command, "--port", str(port)],
        environment={REDIS: server} if server else {},
        rival=True,
    )


def served(name: str, factory: str, *, budgets: tuple[Budget, ...] = ()) -> Peer:
    """An application of `benchmarks.apps` under `tiercel serve`."""
    command = python_module("tiercel", "serve", f"benchmarks.apps:{factory}", *_OPTIONS)
    return Peer(name=name, command=lambda port, _: [*command, "--port", str(port)], hits=True, budgets=budgets)


def nginx(name: str, origin: Peer, place: Path) -> Peer:
    """`proxy_cache` in memory, tuned: one worker, no log, connections kept."""

    def command(port: int, behind: int) -> Sequence[str]:
        here = place / f"nginx-{port}"
        here.mkdir()
        (here / "nginx.conf").write_text(_NGINX.format(here=here, port=port, behind=behind, host=HOST))
        return ["nginx", "-p", str(here), "-c", str(here / "nginx.conf"), "-e", "stderr"]

    return Peer(name=name, command=command, origin=origin)


def varnish(name: str, origin: Peer, place: Path) -> Peer:
    """Varnish, in memory."""

    def command(port: int, behind: int) -> Sequence[str]:
        here = place / f"varnish-{port}"
        listening = ["-F", "-n", str(here), "-a", f"{HOST}:{port}", "-T", "none", "-b", f"{HOST}:{behind}"]
        return ["varnishd", *listening, "-s", "malloc,256m", "-p", "thread_pools=1", "-j", "none"]

    return Peer(name=name, command=command, origin=origin)


_NGINX = """\
daemon off; master_process off; worker_processes 1; pid {here}/pid; error_log stderr error;
events {{ worker_connections 4096; multi_accept on; }}
http {{
  # On the loopback device its fastest: with `sendfile` and `tcp_nopush` the end of 100 KB waits for the client's ACK.
  access_log off; keepalive_requests 100000000; open_file_cache max=10000;
  tcp_nodelay on; sendfile off; output_buffers 1 2m;
  client_body_temp_path {here}/body; proxy_temp_path {here}/proxy; fastcgi_temp_path {here}/f;
  uwsgi_temp_path {here}/u; scgi_temp_path {here}/s;
  proxy_cache_path {here}/cache levels=1:2 keys_zone=one:64m max_size=1g inactive=1d use_temp_path=off;
  upstream behind {{ server {host}:{behind}; keepalive 32; }}
  server {{
    listen {host}:{port} reuseport backlog=4096;
    location / {{ proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Connection "";
                 proxy_cache one; proxy_cache_valid 200 1d; proxy_cache_key $uri; }}
  }}
}}
"""


# -- up ----------------------------------------------------------------------------------------------------------------


@contextmanager
def serving(run: Run, peers: Sequence[Peer]) -> Generator[dict[str, Running]]:
    """All that are here, at once: who is not asked takes no time. By name."""
    with ExitStack() as stack:
        here = [stack.enter_context(_starting(peer, run.server_core)) for peer in peers if not peer.missing]
        yield {one.name: one.up() for one in here}


@contextmanager
def redis(run: Run) -> Generator[Running]:
    """A server of its own, which keeps nothing on disk; on the core of the servers."""
    options = ["--bind", HOST, "--save", "", "--appendonly", "no", "--port"]
    peer = Peer(name="redis-server", command=lambda port, _: ["redis-server", *options, str(port)], alone=True)
    with _starting(peer, run.server_core) as server:
        yield server.up()


def redis_url(server: Running) -> str:
    return f"redis://{HOST}:{server.port}/0"


@contextmanager
def _starting(peer: Peer, core: int | None) -> Generator[Started]:
    with ExitStack() as stack:
        behind = stack.enter_context(_starting(peer.origin, core)).up().port if peer.origin else 0
        port = free_port()
        command = peer.command(port, behind)
        starting = started(peer.name, command, port=port, core=core, environment=peer.environment, alone=peer.alone)
        yield stack.enter_context(starting)


# -- asked -------------------------------------------------------------------------------------------------------------


def fetch(port: int, paths: Sequence[str], asking: Mapping[str, str] | None = None) -> Iterator[Answer]:
    """Ask for one after the other, on one connection."""
    connection = HTTPConnection(HOST, port, timeout=PATIENCE)
    try:
        for path in paths:
            connection.request("GET", path, headers=asking or {})
            response = connection.getresponse()
            yield Answer(response.status, {name.lower(): line for name, line in response.getheaders()}, response.read())
    finally:
        connection.close()


def wrk(server: Running, path: str, *, seconds: int, keys: int = 0, asking: Mapping[str, str] | None = None) -> Load:
    """Ask as fast as it answers; with `keys`, for so many below the path, at random."""
    command = ["wrk", "--threads=1", f"--connections={CONNECTIONS}", f"--duration={seconds}s"]
    for name, value in (asking or {}).items():
        command += ["--header", f"{name}: {value}"]
    script = ["--script", str(RANDOM_KEYS)] if keys else []
    count = ["--", str(keys)] if keys else []
    before = server.cpu_seconds()
    url = f"http://{HOST}:{server.port}{path}"
    told = said([*command, *script, url, *count], seconds=seconds + PATIENCE)
    spent = server.cpu_seconds() - before
    rate, answered = _rate.search(told), _count.search(told)
    if rate is None or answered is None or "Non-2xx" in told:
        raise RuntimeError(f"The load went wrong:\n{told}")
    return Load(by_clock=float(rate[1]), by_cpu=int(answered[1]) / spent)


def throughput(  # noqa: PLR0913 - what may be asked in different ways
    run: Run, peers: Sequence[Peer], path: str, *, keys: int = 0, unchanged: bool = False, seconds: int = 1
) -> Iterator[Row]:
    """Requests per second of peers that give the same answers; `unchanged`: asked whether what is had still holds."""
    paths = [f"{path}/{key}" for key in range(1, keys + 1)] or [path]
    by_clock: dict[str, list[float]] = {peer.name: [] for peer in peers}
    with serving(run, peers) as servers:
        for peer in peers:
            if peer.name in servers and (peer.hits or peer.rival or peer.origin is not None):
                list(fetch(servers[peer.name].port, paths))
        _check(peers, servers, paths)
        asking = {name: _condition(server.port, path) for name, server in servers.items()} if unchanged else {}

        def load(name: str) -> float:
            found = wrk(servers[name], path, seconds=seconds, keys=keys, asking=asking.get(name))
            by_clock[name].append(found.by_clock)
            return found.by_cpu

        if not run.quick:
            for name in servers:
                load(name)
                by_clock[name].clear()
        by_cpu = run.interleaved({name: partial(load, name) for name in servers}, rounds=run.pick(2, 11) // seconds)
        _check(peers, servers, paths)
        notes = {peer.name: _note(peer, servers, path, len(paths), asking) for peer in peers}
    for peer in peers:
        yield Row(name=peer.name, samples=tuple(by_clock[peer.name]), unit="req/s", note=notes[peer.name])
    for peer in peers:
        yield Row(name=peer.name, samples=by_cpu.get(peer.name, ()), unit="req/CPU s", budgets=peer.budgets)


def _condition(port: int, path: str) -> Mapping[str, str]:
    """What asks a peer whether its answer still holds, where it has given something to ask by."""
    answer = next(fetch(port, [path]))
    return {"If-None-Match": answer.headers["etag"]} if "etag" in answer.headers else {}


def _note(
    peer: Peer, servers: Mapping[str, Running], path: str, keys: int, asking: Mapping[str, Mapping[str, str]]
) -> str:
    """What it did: how it answers a condition, and how often its handler ran if that was oftener than once a key."""
    if peer.missing:
        return peer.missing
    port, found = servers[peer.name].port, list[str]()
    if asking and not asking[peer.name]:
        found.append("gives no ETag: 200")
    elif asking:
        found.append(f"answers {next(fetch(port, [path], asking[peer.name])).status}")
    if peer.rival and (calls := int(next(fetch(port, ["/calls/0"])).body)) > keys:
        found.append(f"{calls:,} calls of the handler for {keys:,} keys")
    return "; ".join(found)


def _check(peers: Sequence[Peer], servers: Mapping[str, Running], paths: Sequence[str]) -> None:
    """See that what is compared is the same, and a hit where it is to be one."""
    bodies: list[bytes] = []
    for peer in peers:
        if peer.missing:
            continue
        answers = list(fetch(servers[peer.name].port, paths[:: max(1, len(paths) // LOOKS)]))
        bodies = bodies or [answer.body for answer in answers]
        for answer, body in zip(answers, bodies, strict=True):
            hit = HIT.search(answer.headers.get("cache-status", "")) is not None
            if answer.status != 200 or answer.body != body or hit is not peer.hits:
                raise RuntimeError(f"{peer.name} does not answer as it should: {answer.status} {answer.headers}")
