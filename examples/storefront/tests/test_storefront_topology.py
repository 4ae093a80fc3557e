"""What the README says of the whole: nginx, two processes, a worker, PostgreSQL, Redis, as compose.yaml has them."""

import asyncio
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, aclosing, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from live_client import ByEvents, ByWebSocket, by_events, by_websocket
from redis_server import free_port
from rich.console import Console
from shop_client import is_hit, sqlite
from sqlalchemy import text
from stream_probe import Probe, probing
from topology import DEPLOY, METRICS_TOKEN, Nginx, Topology, in_image, standing, until
from uvicorn_server import environment_of

from storefront.database import Database
from storefront.events.streams import WORK
from storefront.load import load

WAITING = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' LIMIT 1"
HARNESS = Path(__file__).parent / "harness"
OFTEN: dict[str, Any] = dict.fromkeys(("rate", "rate_search", "rate_login", "rate_user"), "1000000/second")

Listening = Callable[[str], AbstractContextManager[ByEvents | ByWebSocket]]


@pytest.fixture(scope="module")
def whole(three: Path) -> Iterator[Topology]:
    """Started in the order of compose.yaml, with a catalogue of three."""
    with TemporaryDirectory() as directory, standing(Path(directory), three, **OFTEN) as topology:
        with ThreadPoolExecutor() as at_once:
            beside = [at_once.submit(start) for start in (topology.start_redis, topology.start_events)]
            topology.start_postgres()
            for each in beside:
                each.result()
            topology.migrate()
            load(topology.settings, Console(quiet=True))
            worker = at_once.submit(topology.start_worker)
            list(at_once.map(topology.start_api, (1, 2)))
            worker.result()
        topology.start_nginx()
        yield topology


@pytest.fixture
def shop(whole: Topology) -> Iterator[httpx.Client]:
    """A client of nginx."""
    with client(whole.nginx.url) as shop:
        yield shop


@pytest.fixture
def apis(whole: Topology) -> Iterator[list[httpx.Client]]:
    """A client of each process, past nginx, and under its name: that is a part of the key."""
    name = f"127.0.0.1:{whole.nginx.port}"
    with client(whole.urls[0], host=name) as one, client(whole.urls[1], host=name) as two:
        yield [one, two]


@pytest.fixture(scope="module")
def alice(whole: Topology) -> dict[str, str]:
    """The headers of somebody who may write."""
    with client(whole.nginx.url) as shop:
        answer = shop.post("/token", data={"username": "alice", "password": "wonderland"})
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


def client(place: str, **headers: str) -> httpx.Client:
    return httpx.Client(base_url=f"{place}/api/v1", timeout=20, headers=headers)


@pytest.fixture(scope="module")
def probed() -> Iterator[tuple[Nginx, Probe]]:
    """The same configuration before a server that tells what it is sent."""
    with TemporaryDirectory() as directory, probing() as probe:
        Path(directory).chmod(0o755)
        nginx = Nginx(Path(directory) / "nginx", [f"127.0.0.1:{probe.port}", f"127.0.0.1:{probe.port}"])
        nginx.start()
        try:
            yield nginx, probe
        finally:
            nginx.program.end()


# -- the cache behind nginx --------------------------------------------------------------------------------------------


def test_a_hit_through_nginx_tells_that_it_is_one(shop: httpx.Client) -> None:
    answers = [shop.get("/products/1") for _ in range(3)]
    assert is_hit(answers[2])
    assert (answers[2].headers["etag"], answers[2].content) == (answers[1].headers["etag"], answers[1].content)
    assert [len(answers[2].headers.get_list(name)) for name in ("age", "date", "cache-status")] == [1, 1, 1]
    again = shop.get("/products/1", headers={"If-None-Match": answers[2].headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_patch_through_one_process_is_seen_through_the_other_at_once(
    apis: list[httpx.Client], shop: httpx.Client, alice: dict[str, str]
) -> None:
    urls = ("/products/2", "/products?order=id", "/products?page=1")
    for round_, (writer, reader) in enumerate([tuple(apis), tuple(reversed(apis))] * 3):
        for url in urls:
            reader.get(url)
            assert is_hit(reader.get(url))
        assert writer.patch("/products/2", json={"stock": round_}, headers=alice).status_code == 200
        # `redis://`: the others hear of it in a millisecond, and within a second in any case.
        until(partial(stocked, reader, round_), patience=1.0)
        for each in (reader, shop):
            found = [each.get(url).json() for url in urls]
            assert [[item["stock"] for item in one.get("items", [one]) if item["id"] == 2] for one in found] == [
                [round_]
            ] * 3


def stocked(reader: httpx.Client, stock: int) -> bool:
    found: int = reader.get("/products/2").json()["stock"]
    return found == stock


def test_processes_behind_nginx_share_what_is_stored(
    apis: list[httpx.Client], shop: httpx.Client, alice: dict[str, str]
) -> None:
    shop.patch("/products/3", json={"stock": 7}, headers=alice)
    assert [is_hit(each.get("/products/3")) for each in (*apis, shop)] == [False, True, True]


# -- what nginx passes -------------------------------------------------------------------------------------------------


@contextmanager
def only(whole: Topology, number: int) -> Generator[None]:
    """Have nginx ask this process alone from now on, as `rollout` does; and both again, once this is over."""
    apis, told = whole.nginx.apis, whole.nginx.apis.read_text()
    apis.write_text(re.sub(rf";(?=  # api-{3 - number}$)", " down;", told, flags=re.MULTILINE))
    assert apis.read_text() != told
    whole.nginx.reload()
    try:
        yield
    finally:
        apis.write_text(told)
        whole.nginx.reload()


@pytest.mark.parametrize("listening", [by_events, by_websocket])
@pytest.mark.parametrize("number", [1, 2])
def test_an_order_through_one_process_is_seen_by_listeners_of_the_other_through_nginx(
    whole: Topology, apis: list[httpx.Client], alice: dict[str, str], number: int, listening: Listening
) -> None:
    with only(whole, number), listening(whole.nginx.url) as listener:
        # At once, before anything has happened; and it is the other process that is asked for the order.
        assert listener.next()["type"] == "hello"
        place_order(apis[2 - number], alice, 2, of=40)
        heard = [listener.next()]
        while heard[-1]["stock"] != 39:
            heard.append(listener.next())
    # Of a change that had to be sent again it is told again.
    assert {(each["type"], each["product_id"], each["stock"]) for each in heard} == {("stock", 2, 40), ("stock", 2, 39)}


def place_order(shop: httpx.Client, who: dict[str, str], product_id: int, *, of: int = 1) -> None:
    """Have so many in stock, and buy one; each sent until it is acknowledged.

    Where a busy machine has Redis take longer than the cache waits it is not, by a 503.
    """
    until(lambda: acknowledged(shop.patch(f"/products/{product_id}", json={"stock": of}, headers=who)))
    headers, order = {**who, "Idempotency-Key": secrets.token_hex(8)}, {"lines": [{"product_id": product_id}]}
    until(lambda: acknowledged(shop.post("/orders", json=order, headers=headers)))


def acknowledged(answer: httpx.Response) -> bool:
    assert answer.is_success or answer.status_code == 503, answer.text
    return answer.is_success


def test_what_a_process_sends_leaves_nginx_piece_by_piece(probed: tuple[Nginx, Probe]) -> None:
    nginx, _ = probed
    with httpx.Client(base_url=nginx.url, timeout=20) as shop, shop.stream("GET", "/slow") as answer:
        # Each is sent only when the one before was read: a buffer would wait for ever.
        seen = list[str]()
        for piece in answer.iter_text(1):
            seen.append(piece)
            if len(seen) < 3:
                assert shop.get("/next").status_code == 200
    assert seen == ["0", "1", "2"]


def test_nginx_says_who_asks_whatever_the_client_says_of_that(probed: tuple[Nginx, Probe]) -> None:
    nginx, probe = probed
    told = {
        "X-Forwarded-For": "192.0.2.1",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "evil.example",
        "Forwarded": "for=192.0.2.1",
    }
    for path in ("/seen", "/api/v1/products/1/files"):  # every location that passes anything
        assert httpx.get(f"{nginx.url}{path}", headers=told).text == "ok"
        assert (probe.seen["x-forwarded-for"], probe.seen["x-forwarded-proto"]) == ("127.0.0.1", "http")
        assert probe.seen["host"] == f"127.0.0.1:{nginx.port}"
        assert not {"x-forwarded-host", "forwarded"} & probe.seen.keys()
        assert "connection" not in probe.seen  # it is kept


def test_bodies_are_as_large_as_the_application_takes_and_no_larger(
    whole: Topology, shop: httpx.Client, alice: dict[str, str]
) -> None:
    limit = whole.settings.body_limit
    answers = [shop.post("/products", content=b"x" * size, headers=alice) for size in (limit, limit + 1)]
    assert [answer.status_code for answer in answers] == [422, 413]
    assert answers[1].headers["content-type"] == "application/problem+json"
    assert answers[1].json()["status"] == 413
    assert f"{limit:,}" in answers[1].json()["detail"]


def picture(size: int) -> bytes:
    """A PNG by its first bytes; what follows is noise, so that no two are the same."""
    head = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + b"\0\0\0\1\0\0\0\1\x08\6\0\0\0\x1f\x15\xc4\x89"
    return head + os.urandom(size - len(head))


def test_a_file_passes_nginx_and_a_part_of_it_is_a_hit(
    shop: httpx.Client, apis: list[httpx.Client], alice: dict[str, str]
) -> None:
    content = picture(5_000_000)
    added = shop.post("/products/1/files?name=ring.png", content=content, headers=alice)
    assert added.status_code == 201
    place = added.headers["location"].removeprefix("/api/v1")
    # Whichever process has it, both read it, and share what is stored.
    assert [each.get(place).content == content for each in apis] == [True, True]
    for _ in range(2):
        part = shop.get(place, headers={"Range": "bytes=4000000-4000099"})
        assert (part.status_code, part.content) == (206, content[4_000_000:4_000_100])
        assert part.headers["content-range"] == "bytes 4000000-4000099/5000000"
        assert "; hit" in part.headers["cache-status"]


def in_chunks(content: bytes) -> Iterator[bytes]:
    """So its length is not announced."""
    yield content


@pytest.mark.parametrize("sent_as", [bytes, in_chunks])
def test_files_are_as_large_as_the_application_takes_and_no_larger(
    whole: Topology, shop: httpx.Client, alice: dict[str, str], sent_as: Callable[[bytes], Any]
) -> None:
    limit = whole.settings.upload_limit
    contents = [picture(limit), picture(limit + 1)]
    taken, refused = (
        shop.post("/products/1/files?name=a.png", content=sent_as(each), headers=alice) for each in contents
    )
    assert (taken.status_code, taken.json()["size"]) == (201, limit)
    assert (refused.status_code, refused.headers["content-type"]) == (413, "application/problem+json")
    assert refused.json()["detail"] == f"a body has at most {limit:,} bytes"


def test_who_may_not_send_a_file_hears_it_before_it_is_sent(whole: Topology) -> None:
    asked = (
        "POST /api/v1/products/1/files?name=a.png HTTP/1.1",
        f"Host: 127.0.0.1:{whole.nginx.port}",
        f"Content-Length: {whole.settings.upload_limit}",
    )
    with socket.create_connection(("127.0.0.1", whole.nginx.port), timeout=20) as client:
        client.sendall("".join(f"{line}\r\n" for line in (*asked, "")).encode() + b"x")
        # The rest is never sent: who waits for it answers 408, at last.
        assert client.recv(100).split()[1] == b"401"


def test_nobody_outside_learns_how_ready_we_are(whole: Topology) -> None:
    asked = [f"{place}/readyz" for place in (whole.nginx.url, *whole.urls)]
    assert [httpx.get(url).status_code for url in asked] == [404, 200, 200]


def test_each_process_tells_its_metrics_to_who_has_the_token_and_nginx_to_nobody(whole: Topology) -> None:
    token = {"Authorization": f"Bearer {METRICS_TOKEN}"}
    asked = [f"{place}/metrics" for place in (whole.nginx.url, *whole.urls)]
    assert [httpx.get(url, headers=token).status_code for url in asked] == [404, 200, 200]
    assert [httpx.get(url).status_code for url in asked] == [404, 401, 401]


# -- events ------------------------------------------------------------------------------------------------------------


def sold(shop: httpx.Client, product_id: int) -> int:
    """How many, as the bestsellers say."""
    found = {each["product_id"]: each["quantity"] for each in shop.get("/products/bestsellers").json()}
    return int(found.get(product_id, 0))


def test_an_order_through_nginx_is_counted_by_the_worker_and_seen_through_both_processes(
    shop: httpx.Client, apis: list[httpx.Client], alice: dict[str, str]
) -> None:
    before = [sold(each, 3) for each in apis]  # and so stored, by both
    place_order(shop, alice, 3)
    until(lambda: [sold(each, 3) for each in apis] == [count + 1 for count in before])


def test_a_worker_that_was_killed_goes_on_where_it_was(
    whole: Topology, shop: httpx.Client, alice: dict[str, str]
) -> None:
    before = sold(shop, 3)
    whole.worker.end(signal.SIGKILL)
    try:
        for _ in range(3):
            place_order(shop, alice, 3)
        until(lambda: left(whole) >= 6)  # as many changes
        assert sold(shop, 3) == before
        # What it has taken and not done is there, too, after a restart of the Redis that keeps it.
        whole.events.kill()
        whole.events.start()
        assert left(whole) >= 6
    finally:
        whole.restart_worker()
    until(lambda: (sold(shop, 3), left(whole)) == (before + 3, 0))


def left(whole: Topology) -> int:
    """How many events are still to do: what the guide says to look at."""
    return int(whole.events.ask("XLEN", WORK).removeprefix(b":"))


# -- what happens to it ------------------------------------------------------------------------------------------------


def test_while_the_database_is_down_hits_are_served_and_readiness_says_so(whole: Topology, shop: httpx.Client) -> None:
    for _ in range(2):
        shop.get("/products/1")
    whole.postgres.end()
    try:
        assert all(is_hit(shop.get("/products/1")) for _ in range(4))
        ready = [httpx.get(f"{place}/readyz") for place in whole.urls]
        assert [answer.status_code for answer in ready] == [503, 503]
        assert {answer.json()["database"] for answer in ready} == {"unreachable"}
        assert [httpx.get(f"{place}/healthz").status_code for place in whole.urls] == [200, 200]
        missed = shop.get("/products/999")
        assert (missed.status_code, missed.headers["content-type"]) == (503, "application/problem+json")
        assert "stored" not in missed.headers.get("cache-status", "")
    finally:
        whole.postgres.start()
    assert [httpx.get(f"{place}/readyz").status_code for place in whole.urls] == [200, 200]
    assert shop.get("/products/999").status_code == 404


async def test_a_request_whose_database_goes_away_is_a_503(whole: Topology, alice: dict[str, str]) -> None:
    url = f"{whole.nginx.url}/api/v1/products/3"
    async with (
        aclosing(Database(whole.settings.database_url)) as database,
        database.engine.connect() as other,
        database.engine.connect() as watcher,
        httpx.AsyncClient(timeout=20) as shop,
    ):
        await other.execute(text("SELECT * FROM products WHERE id = 3 FOR UPDATE"))
        asked = asyncio.create_task(shop.patch(url, json={"stock": 1}, headers=alice))
        # It waits for the row; then its connection is ended.
        async with asyncio.timeout(20):
            while not await watcher.scalar(text(WAITING)):
                await watcher.rollback()
        answer = await asked
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_a_store_that_was_started_again_costs_a_cold_cache_and_no_wrong_answer(
    whole: Topology, shop: httpx.Client, apis: list[httpx.Client], alice: dict[str, str]
) -> None:
    for each in apis * 2:
        each.get("/products/1")
    whole.redis.kill()
    assert [each.get("/products/1").status_code for each in apis] == [200, 200]
    whole.redis.start()
    until(lambda: all(httpx.get(f"{place}/readyz").json()["store"] == "ok" for place in whole.urls))
    assert shop.patch("/products/1", json={"stock": 77}, headers=alice).status_code == 200
    until(lambda: all(each.get("/products/1").json()["stock"] == 77 for each in apis))


def test_a_process_that_dies_is_asked_no_more(whole: Topology, shop: httpx.Client, alice: dict[str, str]) -> None:
    whole.apis[0].end(signal.SIGKILL)
    try:
        assert {shop.get(f"/products?limit={n}").status_code for n in range(1, 9)} == {200}
        assert shop.patch("/products/1", json={"stock": 5}, headers=alice).status_code == 200
    finally:
        whole.restart_api(1)


def test_when_nobody_answers_nginx_says_so_in_our_own_form(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    nginx = Nginx(tmp_path / "nginx", [f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"])
    nginx.program.start(f"{nginx.url}/healthz", any_answer=True)
    try:
        answers = [httpx.get(f"{nginx.url}/api/v1/products/1{more}") for more in ("", "/files")]
    finally:
        nginx.program.end()
    for answer in answers:
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.headers["content-type"] == "application/problem+json"


def test_the_health_check_of_the_image_tells_who_lives(whole: Topology) -> None:
    _, *command = in_image("HEALTHCHECK")
    told = [[sys.executable, *command], [part.replace("8000", str(free_port())) for part in [sys.executable, *command]]]
    told[0] = [part.replace("8000", str(whole.ports[0])) for part in told[0]]
    codes = [subprocess.run(each, check=False, stderr=subprocess.DEVNULL).returncode for each in told]
    assert codes == [0, 1]


# -- a rollout ---------------------------------------------------------------------------------------------------------


@contextmanager
def asked_of_docker(whole: Topology) -> Generator[tuple[str, list[tuple[str, list[str]]]]]:
    """A URL that does to processes what `rollout` asks docker to do to containers.

    And what it was asked, each time with the names of those that nginx had been told not to ask.
    """
    asked = list[tuple[str, list[str]]]()

    class Host(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            wanted = self.rfile.read(int(self.headers["Content-Length"])).decode()
            asked.append(
                (wanted.split()[-1], re.findall(r" down;  # (.+)$", whole.nginx.apis.read_text(), re.MULTILINE))
            )
            if wanted.endswith("-s reload"):
                whole.nginx.reload()
            else:
                assert re.fullmatch(r"compose up --detach --no-deps --no-build --wait (worker|api-[12])", wanted), (
                    wanted
                )
                whole.restart_worker() if wanted.endswith("worker") else whole.restart_api(int(wanted[-1]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the standard library
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Host) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def rolled_out(whole: Topology, control: str) -> None:
    """Run the very script, in a directory whose nginx is that of the topology, with a `docker` that is the test."""
    with TemporaryDirectory() as directory:
        place = Path(directory)
        shutil.copy(DEPLOY / "rollout", place)
        shutil.copy(HARNESS / "docker_for_rollout", place / "docker")
        (place / "nginx").symlink_to(whole.nginx.apis.parent)
        environment = {**os.environ, "PATH": f"{place}:{os.environ['PATH']}", "ROLLOUT_TEST": control}
        subprocess.run([place / "rollout"], check=True, env=environment, timeout=90)


def test_a_rollout_fails_no_request(whole: Topology, alice: dict[str, str]) -> None:
    over = threading.Event()
    url = f"{whole.nginx.url}/api/v1/products/3"

    def ask(number: int) -> int:
        """Until it is over; each on a connection of its own, every third a change. How many were answered."""
        answered = 0
        with httpx.Client(timeout=20, limits=httpx.Limits(max_keepalive_connections=0)) as shop:
            while not over.is_set():
                answered += 1
                if answered % 3:
                    answer = shop.get(url)
                else:
                    answer = shop.patch(url, json={"stock": 10 * answered + number}, headers=alice)
                assert answer.status_code == 200, answer.text
        return answered

    before = [program.pid for program in (whole.worker, *whole.apis)]
    with ThreadPoolExecutor() as at_once, asked_of_docker(whole) as (control, asked):
        asking = [at_once.submit(ask, number) for number in range(2)]
        try:
            rolled_out(whole, control)
        finally:
            over.set()
        answered = [each.result() for each in asking]
    assert min(answered) > 10
    # While a process is replaced nginx knows that it is not to be asked.
    assert asked == [
        ("worker", []),
        ("reload", ["api-1"]),
        ("api-1", ["api-1"]),
        ("reload", []),
        ("reload", ["api-2"]),
        ("api-2", ["api-2"]),
        ("reload", []),
    ]
    assert not set(before) & {program.pid for program in (whole.worker, *whole.apis)}


# -- a demonstration ---------------------------------------------------------------------------------------------------


def test_the_demonstration_of_the_whole_ends_by_ctrl_c_and_leaves_nothing(three: Path) -> None:
    root = DEPLOY.parents[2]
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        paths = [str(DEPLOY.parent), str(HARNESS), str(root / "tests" / "harness"), str(root / "src")]
        told = {"PORT": str(free_port()), "TMPDIR": directory, "STOREFRONT_CATALOGUE": str(three)}
        environment = {**os.environ, **told, "PYTHONPATH": os.pathsep.join(paths)}
        command = [sys.executable, str(root / "scripts" / "demo_full.py")]
        with subprocess.Popen(
            command, cwd=DEPLOY.parent, env=environment, stdout=subprocess.PIPE, text=True
        ) as demonstration:
            assert demonstration.stdout is not None
            try:
                said = list[str]()
                for line in demonstration.stdout:
                    said.append(line)
                    if "Ctrl-C ends it" in line:
                        break
                answer = httpx.get(f"http://127.0.0.1:{told['PORT']}/api/v1/products/1")
                below = children(demonstration.pid)
            finally:
                demonstration.send_signal(signal.SIGINT)
            said.append(demonstration.stdout.read())
        assert (answer.status_code, demonstration.returncode) == (200, 0), said
        assert "The storefront is closed" in said[-1]
        assert len(below) >= 7  # nginx, PostgreSQL, two of Redis, two processes, the worker
        until(lambda: not any(map(lives, below)), lambda: f"still there: {list(filter(lives, below))}")
        assert list(Path(directory).iterdir()) == []


@pytest.mark.parametrize(("workers", "ending"), [("1", signal.SIGTERM), ("2", signal.SIGINT)])
def test_the_demonstration_with_a_redis_has_a_worker_and_leaves_nothing(
    whole: Topology, three: Path, workers: str, ending: signal.Signals
) -> None:
    with TemporaryDirectory() as directory:
        there = f"redis://127.0.0.1:{whole.redis.port}/2"
        settings = sqlite(Path(directory) / "shop.db").model_copy(
            update={"catalogue": three, "cache_url": there, "events_url": there}
        )
        load(settings, Console(quiet=True))
        environment = {**environment_of(settings), "PORT": str(free_port()), "WORKERS": workers, "TMPDIR": directory}
        command = [sys.executable, str(DEPLOY.parents[2] / "scripts" / "demo.py")]
        with (
            subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as demonstration,
            client(f"http://127.0.0.1:{environment['PORT']}") as shop,
        ):
            try:
                until(lambda: answers(shop))
                told = shop.post("/token", data={"username": "alice", "password": "wonderland"}).json()
                place_order(shop, {"Authorization": f"Bearer {told['access_token']}"}, 3)
                until(lambda: sold(shop, 3) == 1)
                below = children(demonstration.pid)
            finally:
                demonstration.send_signal(ending)
        assert len(below) >= int(workers)
        until(lambda: not any(map(lives, below)), lambda: f"still there: {list(filter(lives, below))}")


def answers(shop: httpx.Client) -> bool:
    try:
        return shop.get("/products/1").status_code == 200
    except httpx.TransportError:
        return False


def lives(pid: int) -> bool:
    """A process that has ended, and that nobody has asked of yet, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children(pid: int) -> list[int]:
    """All that a process has started, and those have."""
    direct = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*direct, *(below for each in direct for below in children(each))]
