"""What compose.yaml describes, without containers: PostgreSQL, Redis twice, the application twice, its worker, nginx.

What the containers would be told is read from the files in `deploy/`; only ports and paths are others.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import yaml  # type: ignore[import-untyped, unused-ignore]
from postgres_server import Postgres
from redis_server import Server, free_port
from shop_client import BUSY
from uvicorn_server import STOREFRONT, environment_of

from storefront.settings import Settings

DEPLOY = STOREFRONT / "deploy"
OWN_SECRET = "of-one-topology-that-is-gone-in-a-minute"
METRICS_TOKEN = "of-one-scrape-that-is-over-in-a-second"
AT_WORK = "app started successfully"
"""What a worker says when it hears of events: it answers nobody."""

PATIENCE = 60.0
"""Seconds for a program to start or to end."""


def compose() -> dict[str, Any]:
    """What compose.yaml says."""
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


def in_image(instruction: str) -> list[str]:
    """What the Dockerfile says: CMD, or the command of HEALTHCHECK."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", "")
    found = re.findall(rf"^{instruction} .*?(\[.*\])$", text, re.MULTILINE)
    command: list[str] = json.loads(found[-1])
    return command


class Program:
    """One process that goes on until it is ended, by its process id."""

    def __init__(self, command: Sequence[str], place: Path, name: str, environment: dict[str, str]) -> None:
        self.command = command
        self.log = place / f"{name}.log"
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, answers: str, *, any_answer: bool = False) -> None:
        """Start it, and wait until that URL is answered; by a 200, or by anything."""
        self._begin()
        self._wait(lambda: self._answers(answers, any_answer=any_answer))

    def start_saying(self, words: str) -> None:
        """Start it, and wait until it says this."""
        said = self.log.read_text().count(words) if self.log.exists() else 0
        self._begin()
        self._wait(lambda: self.log.read_text().count(words) > said)

    def _begin(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                env=self._environment,
                cwd=STOREFRONT,
                stdout=log,
                stderr=log,
                process_group=0,  # Ctrl-C is for whoever started it
            )

    def _wait(self, ready: Callable[[], bool]) -> None:
        def lives_and_is_ready() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, self.log.read_text()
            return ready()

        until(lives_and_is_ready, lambda: self.log.read_text()[-2000:])

    def tell(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Have it finish what it has begun."""
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            self._process = None

    def _answers(self, url: str, *, any_answer: bool) -> bool:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - ours
                return True
        except OSError as error:
            return any_answer and isinstance(error, HTTPError)


class Nginx:
    """nginx with the configuration of `deploy/nginx`, before these servers."""

    def __init__(self, place: Path, servers: Sequence[str], port: int = 0) -> None:
        place.mkdir(parents=True)
        place.chmod(0o755)  # started by root, its workers are somebody else
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.apis = place / "apis.conf"
        self.apis.write_text(_replaced(_conf("apis.conf"), {f"api-{n + 1}:8000": at for n, at in enumerate(servers)}))
        paths = {"listen 8080;": f"listen 127.0.0.1:{self.port};", "/tmp/nginx": str(place)}  # noqa: S108 - of the container
        (place / "nginx.conf").write_text(_replaced(_conf("nginx.conf"), paths))
        options = ["-e", "stderr", "-p", str(place), "-c", str(place / "nginx.conf")]
        self.command = [nginx(), *options]
        self.program = Program([*self.command, "-g", "daemon off;"], place, "nginx", dict(os.environ))

    def start(self) -> None:
        self.program.start(f"{self.url}/healthz")

    def reload(self) -> None:
        """Read the files again, and wait until nobody works by the old ones."""
        old = self._workers()
        self.program.tell(signal.SIGHUP)
        until(lambda: not old & self._workers(), lambda: self.program.log.read_text()[-2000:])

    def _workers(self) -> set[str]:
        pid = self.program.pid
        return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


class Topology:
    """All of it; in `place` and on ports that are free."""

    def __init__(self, place: Path, catalogue: Path, port: int = 0, **more: object) -> None:
        place.chmod(0o755)  # PostgreSQL and the workers of nginx are not root
        self.place = place
        self._open = ExitStack()
        for each in ("postgres", "apis"):
            (place / each).mkdir()
        self.postgres = Postgres(place / "postgres")
        self.redis, self.events = (
            Server(place / name, *compose()["services"][name]["command"][1:]) for name in ("redis", "events")
        )
        self.ports = (free_port(), free_port())
        self.urls = tuple(f"http://127.0.0.1:{port}" for port in self.ports)
        self.nginx = Nginx(place / "nginx", [f"127.0.0.1:{port}" for port in self.ports], port)
        self.settings = Settings(
            database_url=self.postgres.url("storefront"),
            cache_url=self.redis.url,
            rate_url=f"redis://127.0.0.1:{self.redis.port}/1",
            events_url=self.events.url,
            uploads=place / "uploads",
            catalogue=catalogue,
            cache_timeout=BUSY,
        ).model_copy(update=more)
        self.environment = {
            **environment_of(self.settings),
            **compose()["x-api"]["environment"],
            **{name: value for name, value in environment_of(self.settings).items() if name.startswith("STOREFRONT_")},
            "STOREFRONT_SECRET": OWN_SECRET,
            "STOREFRONT_METRICS_TOKEN": METRICS_TOKEN,
        }
        self.apis = [self._api(n) for n in (1, 2)]
        _, *told = compose()["services"]["worker"]["command"]
        self.worker = Program([sys.executable, *told], place / "apis", "worker", self.environment)

    def _api(self, number: int) -> Program:
        _, *told = in_image("CMD")
        told[told.index("--port") + 1] = str(self.ports[number - 1])
        told[told.index("--host") + 1] = "127.0.0.1"
        return Program([sys.executable, "-m", "uvicorn", *told], self.place / "apis", f"api-{number}", self.environment)

    # -- in the order of compose.yaml ----------------------------------------------------------------------------------

    def start_postgres(self) -> None:
        self._open.callback(self.postgres.end)
        self.postgres.start()
        self.postgres.create("storefront")

    def start_redis(self) -> None:
        self._open.callback(self.redis.end)
        self.redis.start()

    def start_events(self) -> None:
        self._open.callback(self.events.end)
        self.events.start()

    def migrate(self) -> None:
        """What the service `migrate` does."""
        command = [sys.executable, "-m", *compose()["services"]["migrate"]["command"]]
        subprocess.run(command, env=self.environment, cwd=STOREFRONT, check=True)

    def start_api(self, number: int) -> None:
        self._open.callback(self.apis[number - 1].end)
        self.apis[number - 1].start(f"{self.urls[number - 1]}/healthz")

    def start_worker(self) -> None:
        self._open.callback(self.worker.end)
        self.worker.start_saying(AT_WORK)

    def start_nginx(self) -> None:
        self._open.callback(self.nginx.program.end)
        self.nginx.start()

    # ------------------------------------------------------------------------------------------------------------------

    def restart_api(self, number: int) -> None:
        """What `docker compose up --wait` does with a container whose image is another one."""
        self.apis[number - 1].end()
        self.apis[number - 1].start(f"{self.urls[number - 1]}/healthz")

    def restart_worker(self) -> None:
        """The same with the worker."""
        self.worker.end()
        self.worker.start_saying(AT_WORK)

    def end(self) -> None:
        """End what was started, last first."""
        self._open.close()


@contextmanager
def standing(place: Path, catalogue: Path, port: int = 0, **more: object) -> Generator[Topology]:
    """A topology whose processes are ended whatever happens."""
    topology = Topology(place, catalogue, port, **more)
    try:
        yield topology
    finally:
        topology.end()


def nginx() -> str:
    """Debian has it where only root looks."""
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert found is not None, "`make storefront` installs it: scripts/need nginx"
    return found


def until(true: Callable[[], bool], why: Callable[[], str] = str, *, patience: float = PATIENCE) -> None:
    """Wait for something that other processes do."""
    deadline = time.monotonic() + patience
    while not true():
        assert time.monotonic() < deadline, why()
        time.sleep(0.01)


def _conf(name: str) -> str:
    return (DEPLOY / "nginx" / name).read_text()


def _replaced(text: str, others: dict[str, str]) -> str:
    for one, other in others.items():
        assert one in text, f"{one} is not there any more: what would the test start?"
        text = text.replace(one, other)
    return text
