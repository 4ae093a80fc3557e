"""Servers under test: on free loopback ports and one core, ended by process id; and the load on them."""

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import IO, NamedTuple

from benchmarks.rows import Budget, Row, Run

HOST = "127.0.0.1"
CONNECTIONS = 32
LOOKS = 100
"""Answers that are looked at, of each peer, before and after."""
PATIENCE = 30.0
"""Seconds that a server may take to answer for the first time, or to end."""
RANDOM_KEYS = Path(__file__).with_name("random_keys.lua")

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


class Running(NamedTuple):
    """A server that is up."""

    port: int
    pid: int

    def cpu_seconds(self) -> float:
        return _cpu_seconds(self.pid)


class Load(NamedTuple):
    """Requests per second: of the clock, and of the server's CPU time. The same while it has its core to itself."""

    by_clock: float
    by_cpu: float


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


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
    options = ["--factory", "--no-access-log", "--log-level", "warning", *several, "--host", HOST, "--port"]
    command = [sys.executable, "-m", "uvicorn", f"benchmarks.apps:{factory}", *options]
    return Peer(
        name=name,
        command=lambda port, _: [*command, str(port)],
        hits=hits,
        budgets=budgets,
        environment=environment or {},
    )


def served(name: str, factory: str, *, budgets: tuple[Budget, ...] = ()) -> Peer:
    """An application of `benchmarks.apps` under `tiercel serve`."""
    options = ["--factory", "--no-access-log", "--log-level", "warning", "--host", HOST, "--port"]
    command = [sys.executable, "-m", "tiercel", "serve", f"benchmarks.apps:{factory}", *options]
    return Peer(name=name, command=lambda port, _: [*command, str(port)], hits=True, budgets=budgets)


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
  access_log off; keepalive_requests 100000000; tcp_nopush on; tcp_nodelay on; sendfile on; open_file_cache max=10000;
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


@contextmanager
def pinned() -> Generator[int | None]:
    """This process, and the load that it starts, on one core; another for the servers, None where there is none."""
    usable = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, usable[-1:])
    try:
        yield usable[0] if len(usable) > 1 else None
    finally:
        os.sched_setaffinity(0, usable)


@contextmanager
def serving(run: Run, peers: Sequence[Peer]) -> Generator[dict[str, Running]]:
    """All of them at once: who is not asked takes no time. By name."""
    with ExitStack() as stack:
        yield {peer.name: stack.enter_context(_serving(peer, run.server_core)) for peer in peers}


@contextmanager
def redis(run: Run) -> Generator[Running]:
    """A server of its own, which keeps nothing on disk; on the core of the servers."""
    options = ["--bind", HOST, "--save", "", "--appendonly", "no", "--port"]
    peer = Peer(name="redis-server", command=lambda port, _: ["redis-server", *options, str(port)])
    with _serving(peer, run.server_core) as server:
        yield server


def redis_url(server: Running) -> str:
    return f"redis://{HOST}:{server.port}/0"


@contextmanager
def _serving(peer: Peer, core: int | None, *, behind: int = 0) -> Generator[Running]:
    if peer.origin is not None and not behind:
        with _serving(peer.origin, core) as origin, _serving(peer, core, behind=origin.port) as server:
            yield server
        return
    port = _free_port()
    pin = [] if core is None else ["taskset", "--cpu-list", str(core)]
    with tempfile.TemporaryFile() as log:
        told = {**os.environ, **peer.environment}
        process = subprocess.Popen([*pin, *peer.command(port, behind)], stdout=log, stderr=subprocess.STDOUT, env=told)
        try:
            _await_start(peer, process, port, log)
            yield Running(port, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _await_start(peer: Peer, process: subprocess.Popen[bytes], port: int, log: IO[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection((HOST, port), timeout=1.0).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    log.seek(0)
    raise RuntimeError(f"{peer.name} did not start:\n{log.read().decode(errors='replace')}")


def fetch(port: int, paths: Sequence[str]) -> Iterator[Answer]:
    """Ask for one after the other, on one connection."""
    connection = HTTPConnection(HOST, port, timeout=PATIENCE)
    try:
        for path in paths:
            connection.request("GET", path)
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
    said = subprocess.run(
        [*command, *script, f"http://{HOST}:{server.port}{path}", *count],
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + PATIENCE,
    ).stdout
    spent = server.cpu_seconds() - before
    rate, answered = _rate.search(said), _count.search(said)
    if rate is None or answered is None or "Non-2xx" in said:
        raise RuntimeError(f"The load went wrong:\n{said}")
    return Load(by_clock=float(rate[1]), by_cpu=int(answered[1]) / spent)


def throughput(run: Run, peers: Sequence[Peer], path: str, *, keys: int = 0, unchanged: bool = False) -> Iterator[Row]:
    """Requests per second of peers that give the same answers; `unchanged`: asked whether what is had still holds."""
    paths = [f"{path}/{key}" for key in range(1, keys + 1)] or [path]
    by_clock: dict[str, list[float]] = {peer.name: [] for peer in peers}
    with serving(run, peers) as servers:
        for peer in peers:
            if peer.hits or peer.origin is not None:
                list(fetch(servers[peer.name].port, paths))
        _check(peers, servers, paths)
        asking = {name: _condition(server.port, path) for name, server in servers.items()} if unchanged else {}

        def load(name: str, seconds: int) -> float:
            found = wrk(servers[name], path, seconds=seconds, keys=keys, asking=asking.get(name))
            by_clock[name].append(found.by_clock)
            return found.by_cpu

        for name in servers:
            load(name, 1)
            by_clock[name].clear()
        measures = {name: partial(load, name, run.pick(1, 2)) for name in servers}
        by_cpu = run.interleaved(measures, rounds=run.pick(5, 11))
        _check(peers, servers, paths)
    for peer in peers:
        yield Row(name=peer.name, samples=tuple(by_clock[peer.name]), unit="req/s")
    for peer in peers:
        yield Row(name=peer.name, samples=by_cpu[peer.name], unit="req/CPU s", budgets=peer.budgets)


def _condition(port: int, path: str) -> Mapping[str, str]:
    """What asks a peer whether its answer still holds, where it has given something to ask by."""
    answer = next(fetch(port, [path]))
    return {"If-None-Match": answer.headers["etag"]} if "etag" in answer.headers else {}


def _cpu_seconds(pid: int) -> float:
    """Of a process, its threads, and the processes that it has started."""
    spent = 0.0
    for task in Path(f"/proc/{pid}/task").iterdir():
        spent += int((task / "schedstat").read_text().split()[0]) / 1e9
    return spent + sum(map(_cpu_seconds, _children(pid)))


def _children(pid: int) -> Iterator[int]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except FileNotFoundError:
            continue  # it has ended meanwhile
        if parent == pid:
            yield int(stat.parent.name)


def _check(peers: Sequence[Peer], servers: Mapping[str, Running], paths: Sequence[str]) -> None:
    """See that what is compared is the same, and a hit where it is to be one."""
    bodies: list[bytes] = []
    for peer in peers:
        answers = list(fetch(servers[peer.name].port, paths[:: max(1, len(paths) // LOOKS)]))
        bodies = bodies or [answer.body for answer in answers]
        for answer, body in zip(answers, bodies, strict=True):
            hit = "; hit" in answer.headers.get("cache-status", "")
            if answer.status != 200 or answer.body != body or hit is not peer.hits:
                raise RuntimeError(f"{peer.name} does not answer as it should: {answer.status} {answer.headers}")
