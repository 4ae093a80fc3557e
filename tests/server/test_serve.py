"""`tiercel serve`: the command, as a process of its own."""

import asyncio
import http.client
import importlib
import logging
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import uvicorn
from hostile import HOSTILE
from redis_server import free_port
from typer.testing import CliRunner

from tiercel import cli
from tiercel.asgi import FRONT
from tiercel.server import LEFT_OUT, Served, _serve, application

pytestmark = pytest.mark.realtime

SHOP = """
import os
from fastapi import FastAPI, Response
from tiercel import Cache

cache = Cache({url})
app = FastAPI({options})
cache.install(app)

@app.middleware("http")
async def number(request, call_next):
    response = await call_next(request)
    response.headers["x-request-id"] = "1"
    response.headers["x-outside"] = "yes"
    return response

@app.get("/items/{{item}}")
@cache.response(ttl=60, tags="items")
async def read(item: int) -> dict[str, int]:
    return {{"item": item, "worker": os.getpid()}}

@app.put("/items/{{item}}")
@cache.invalidates("items")
async def write(item: int) -> None: ...

def create() -> FastAPI:
    return app
"""


@contextmanager
def serving(
    place: Path, *options: str, module: str = "", fds: Sequence[int] = (), **settings: Any
) -> Generator[tuple[int, Path]]:
    """The command, ended by its process id; its port, and what it has said."""
    (place / "shop.py").write_text(module or SHOP.format(url=settings.pop("url", ""), options=settings.pop("app", "")))
    port, said = free_port(), place / "said"
    command = [sys.executable, "-m", "tiercel", "serve", options[0] if options else "shop:app", *options[1:]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(place), *sys.path]), **settings}
    with said.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=place,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            pass_fds=fds,
        )
    try:
        _until(lambda: _is_ready(said.read_bytes()) or process.poll() is not None)
        yield port, said
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def _is_ready(log: bytes) -> bool:
    return b"startup complete" in log and b"running on" in log


def _until(condition: Callable[[], bool]) -> None:
    """However long it takes: the time limit of the test ends it."""
    while not condition():
        _wait()


def _wait() -> None:
    asyncio.run(asyncio.sleep(0.05))


def asked(port: int, path: str = "/items/1", method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def test_a_hit_is_answered_in_front_of_the_whole_application(tmp_path: Path) -> None:
    with serving(tmp_path, "shop:app", "--outermost") as (port, said):
        missed, hit = asked(port), asked(port)
        assert missed[1]["cache-status"] == "tiercel; fwd=uri-miss; stored"
        assert hit[1]["cache-status"].startswith("tiercel; hit")
        assert missed[1]["x-request-id"] == "1"
        assert "x-request-id" not in hit[1]
        assert hit[1]["x-outside"] == "yes", "what middleware adds is part of what is stored"
        assert hit[2] == missed[2]
        assert asked(port, **{"if-none-match": hit[1]["etag"]})[0] == 304
        asked(port, method="PUT")
        assert "fwd=uri-miss" in asked(port)[1]["cache-status"]
    log = said.read_text()
    assert '"GET /items/1 HTTP/1.1" 200 OK' in log
    assert log.count('"GET /items/1') == 4
    assert "WARNING" not in log


def test_a_socket_that_is_open_already_is_served(tmp_path: Path) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        with serving(tmp_path, "shop:app", "--outermost", "--fd", str(listening.fileno()), fds=(listening.fileno(),)):
            asked(port)
            assert asked(port)[1]["cache-status"].startswith("tiercel; hit")
            assert "x-request-id" not in asked(port)[1]


def test_the_options_are_uvicorns(tmp_path: Path) -> None:
    with serving(
        tmp_path,
        "shop:create",
        "--factory",
        "--root-path",
        "/api",
        "--no-server-header",
        "--outermost",
        "--leave-out",
        "X-Outside",
    ) as (port, _):
        answers = [asked(port) for _ in range(3)]
        assert answers[2][1]["cache-status"].startswith("tiercel; hit")
        assert "server" not in answers[2][1]
        assert "x-outside" not in answers[2][1]


def test_an_application_with_a_root_path_of_its_own_is_answered_in_front(tmp_path: Path) -> None:
    with serving(tmp_path, app='root_path="/api"') as (port, _):
        for path in ("/items/1", "/api/items/1"):
            assert [asked(port, path)[1]["cache-status"][:12] for _ in range(2)] in (
                ["tiercel; fwd", "tiercel; hit"],
                ["tiercel; hit", "tiercel; hit"],
            )


def test_workers_share_what_is_stored(tmp_path: Path) -> None:
    with serving(tmp_path, "shop:app", "--workers", "2", "--no-access-log", TIERCEL_STORE_TIMEOUT="5s") as (port, said):
        _until(lambda: said.read_text().count("startup complete") == 2)
        workers = {asked(port)[2] for _ in range(40)}
        assert len(workers) == 1, "one has computed it, all have it"
        shared = Path(re.findall(r"shared by the workers in (\S+)", said.read_text())[0])
        assert shared.is_dir()
        asked(port, method="PUT")
        _until(lambda: len({asked(port)[2] for _ in range(40)}) == 1)  # it cuts once more when it has ended
    assert not shared.exists()


def test_workers_share_nothing_where_the_program_says_so(tmp_path: Path) -> None:
    with serving(tmp_path, "shop:app", "--workers", "2", "--no-access-log", url="'memory://'") as (port, said):
        _until(lambda: said.read_text().count("startup complete") == 2)
        assert len({asked(port)[2] for _ in range(60)}) == 2


def test_what_has_no_cache_in_front_is_served_all_the_same_and_said(tmp_path: Path) -> None:
    wrapped = (
        SHOP.format(url="", options="")
        + "\nasync def outer(scope, receive, send):\n    await app(scope, receive, send)\n"
    )
    with serving(tmp_path, "shop:outer", module=wrapped) as (port, said):
        asked(port)
        assert asked(port)[1]["cache-status"].startswith("tiercel; hit")
        assert asked(port)[1]["x-request-id"] == "1", "the cache stands where it was installed"
    assert "shop:outer is served without a cache in front" in said.read_text()


def test_with_another_protocol_the_cache_is_middleware(tmp_path: Path) -> None:
    with serving(tmp_path, "shop:app", "--http", "h11") as (port, said):
        assert asked(port)[1]["x-request-id"] == asked(port)[1]["x-request-id"] == "1", "nothing is left out"
        assert asked(port)[1]["cache-status"].startswith("tiercel; hit")
    assert "hits are answered by the cache as ASGI middleware" in said.read_text()


def test_of_an_unknown_uvicorn_the_protocol_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert _serve._protocol([]) == ["--http", "tiercel.server._protocol:HitProtocol"]
    with caplog.at_level(logging.WARNING, "tiercel"):
        assert _serve._protocol(["--limit-concurrency=9"]) == []
        monkeypatch.setenv("UVICORN_HTTP", "h11")
        assert _serve._protocol([]) == []
        monkeypatch.delenv("UVICORN_HTTP")
        monkeypatch.setattr(uvicorn, "__version__", "99.1.0")
        assert _serve._protocol([]) == []
    for why in ("--limit-concurrency is given", "--http is given", "uvicorn 99.1.0 is not known to tiercel"):
        assert why in caplog.text


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module in which there is an application."""
    name = f"shop_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(SHOP.format(url="", options=""))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return name


def told(monkeypatch: pytest.MonkeyPatch, served: Served) -> None:
    monkeypatch.setenv(_serve._TOLD, msgspec.json.encode(served).decode())


@pytest.mark.parametrize("factory", [False, True])
def test_a_worker_makes_the_application_and_puts_its_cache_in_front(
    shop: str, *, factory: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = Served(app=f"{shop}:{'create' if factory else 'app'}", factory=factory, share=f"local://{tmp_path}/shared")
    told(monkeypatch, served)
    app = application()
    front = getattr(app, FRONT)
    assert front.served
    assert front.rules.left_out == LEFT_OUT
    assert front.engine.depot is not None


NUMBERED = """
from fastapi import FastAPI
from tiercel import Cache

app, cache = FastAPI(), Cache()

async def number(request, call_next):
    response = await call_next(request)
    response.headers["x-request-id"] = request.headers["x-request-id"]
    return response

{before}
cache.install(app)
{after}

@app.get("/items")
@cache.response(ttl=60)
async def read() -> int:
    return 1
"""


@pytest.mark.parametrize(
    ("outside", "served", "second"),
    [
        (True, None, "b"),
        (True, Served(app=""), "b"),
        (True, Served(app="", outermost=True), None),
        (True, Served(app="", in_front=False), "b"),
        (False, None, "a"),  # the reason for which it belongs outside
        (False, Served(app=""), None),
        (False, Served(app="", outermost=True), None),
        (False, Served(app="", in_front=False), "a"),
    ],
)
async def test_whose_request_id_a_hit_has(
    *, outside: bool, served: Served | None, second: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table of docs/serving.md."""
    name = f"numbered_{tmp_path.name}"
    places = {"before": "", "after": "", "after" if outside else "before": 'app.middleware("http")(number)'}
    (tmp_path / f"{name}.py").write_text(NUMBERED.format(**places))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    if served is None:
        app = importlib.import_module(name).app
    else:
        told(monkeypatch, msgspec.structs.replace(served, app=f"{name}:app"))
        app = application()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.test") as client:
        first, again = [await client.get("/items", headers={"x-request-id": one}) for one in "ab"]
    assert first.headers["x-request-id"] == "a"
    assert again.headers["cache-status"].startswith("tiercel; hit")
    assert again.headers.get("x-request-id") == second


def test_a_worker_says_what_it_cannot_put_in_front_or_find(
    shop: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told(monkeypatch, Served(app=f"{shop}:read"))
    assert application() is sys.modules[shop].read
    assert f"{shop}:read is served without a cache in front: it has none, or something around it" in caplog.text
    assert "each worker" not in caplog.text, "there is one"
    told(monkeypatch, Served(app=f"{shop}:read", share="local:///var/cache/nowhere"))
    application()
    assert "each worker has one of its own, and an invalidation in one does not reach the others" in caplog.text
    assert 'give it one that they share, such as Cache("local:///var/cache/shop")' in caplog.text
    told(monkeypatch, Served(app=f"{shop}:nothing"))
    with pytest.raises(SystemExit, match=r'^Error loading ASGI app. Attribute "nothing" not found'):
        application()


def test_a_command_runs_uvicorns(shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the application of a worker; what workers share is gone when it returns."""
    seen: list[tuple[list[str], Served]] = []

    def uvicorns(command: list[str], prog_name: str) -> None:
        assert prog_name == "tiercel serve"
        seen.append((command, msgspec.json.decode(os.environ[_serve._TOLD], type=Served)))
        assert Path(seen[0][1].share.removeprefix("local://")).is_dir()
        assert seen[0][1].in_front

    monkeypatch.setattr(_serve, "uvicorn_command", uvicorns)
    monkeypatch.setenv(_serve._TOLD, "")
    options = ["serve", f"{shop}:app", "--workers", "2", "--leave-out", "x-a", "--port", "1"]
    CliRunner().invoke(cli.app, options)
    ((command, served),) = seen
    assert command[:2] == ["tiercel.server:application", "--factory"]
    assert command[-4:] == ["--workers", "2", "--port", "1"]
    assert served.left_out == (*LEFT_OUT, "x-a")
    assert not Path(served.share.removeprefix("local://")).exists()
    assert CliRunner().invoke(cli.app, ["serve", f"{shop}:app", "--leave-out", "a b"]).exit_code == 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["nowhere:app"], '^Error loading ASGI app. Could not import module "nowhere"'),
        (["shop:nothing"], 'Attribute "nothing" not found in module "shop"'),
        (["shop:app", "--nonsense"], "No such option '--nonsense'"),
        (["shop:app", "--workers", "0"], "Invalid value for .--workers.*greater than or equal to 1"),
        (["shop:app", "--leave-out", "a b"], "left_out cannot have 'a b'"),
    ],
)
def test_a_mistake_is_said_in_a_sentence(tmp_path: Path, options: Sequence[str], says: str) -> None:
    with serving(tmp_path, *options) as (_, said):
        pass
    assert re.search(says, re.sub(r"[\s│]+", " ", said.read_text()))


PLAIN = """
from tiercel import Cache, CacheMiddleware

async def hello(scope, receive, send):
    if scope["type"] == "http":
        headers = [(b"cache-control", b"max-age=60"), (b"content-length", b"5"), (b"etag", b'"1"')]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"hello"})

app = CacheMiddleware(hello, cache=Cache())
"""
HIT = b"GET / HTTP/1.1\r\nhost: shop\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n"


def said(port: int, *pieces: bytes) -> bytes:
    """All that is answered on one connection, until the server closes it."""
    found = b""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(ConnectionError):  # it may be closed while bytes are on their way; what was said is there
            for piece in pieces:
                connection.sendall(piece)
        with suppress(ConnectionError):
            while got := connection.recv(65_536):
                found += got
    return re.sub(rb"(?m)^(date|age|cache-status):.*\r\n", b"", found)


def test_hostile_requests_get_over_a_socket_what_uvicorn_says(tmp_path: Path) -> None:
    places = [tmp_path / "ours", tmp_path / "uvicorns"]
    for place in places:
        place.mkdir()
    with (
        serving(places[0], "shop:app", "--no-access-log", module=PLAIN) as (port, log),
        serving(places[1], "shop:app", "--no-access-log", "--http", "httptools", module=PLAIN) as (plain, _),
    ):
        one = said(port, HIT, LAST)
        assert one.count(b"HTTP/1.1 200 OK") == 2
        for data in HOSTILE:
            singly = [data[at : at + 1] for at in range(len(data))] if len(data) < 200 else []
            for pieces in ([data, LAST], [*singly, LAST]):
                answered, broken, refused = said(port, *pieces).partition(b"HTTP/1.1 400")
                uvicorns = said(plain, *pieces).partition(b"HTTP/1.1 400")
                assert (broken, refused) == uvicorns[1:], data[:60]
                # What is broken behind its head is refused before it is answered or after, as its bytes arrive.
                first, second = sorted((answered, uvicorns[0]), key=len)
                assert second.startswith(first) if broken else second == first, data[:60]
        for rows in ([HIT * 1_000 + LAST], [HIT[:9], HIT[9:] + HIT * 999 + LAST], [HIT] * 1_000 + [LAST]):
            assert said(port, *rows) == said(plain, *rows)
        assert said(port, HIT * 1_000 + LAST).count(b"hello") == 1_001
        assert said(port, HIT, LAST) == one, "nothing is lost"
    assert "Traceback" not in log.read_text()
