"""From the command line to uvicorn; and in each worker, from uvicorn to the application."""

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import uvicorn
from uvicorn.importer import ImportFromStringError, import_from_string
from uvicorn.main import main as uvicorn_command

from tiercel._core.policy import Rules
from tiercel.asgi import FRONT, Front

LEFT_OUT: Final = (
    "cf-ray",
    "ratelimit",
    "ratelimit-policy",
    "request-id",
    "server-timing",
    "traceparent",
    "tracestate",
    "x-amzn-trace-id",
    "x-correlation-id",
    "x-process-time",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-request-id",
    "x-response-time",
    "x-runtime",
    "x-trace-id",
)
"""Response fields that tell of one response: not stored where the whole application stands behind the cache."""

KNOWN: Final = ("0.36", *[f"0.{minor}" for minor in (*range(44, 51), 52, 54)])
"""Versions of uvicorn whose protocol hits are answered in: those that the tests have run with."""

_TOLD: Final = "_TIERCEL_SERVE"
"""The variable by which workers are told what they serve."""
_ALONE: Final = (
    " If it has a cache whose Cache(...) has no URL, each worker has one of its own, and an invalidation in one does "
    'not reach the others: give it one that they share, such as Cache("local:///var/cache/shop").'
)
"""What is known of the workers of an application whose cache cannot be seen."""
_log = logging.getLogger("tiercel")


class Served(msgspec.Struct, frozen=True):
    """What is served, and how.

    Args:
        app: `module:attribute`.
        factory: Whether that is a function that makes the application.
        left_out: Names of response fields that are not stored.
        share: Where the workers keep what is stored, if the program has not said.
        outermost: Whether the cache stands outside of the program's own middleware, too.
        in_front: Whether hits are answered before the application is called.
    """

    app: str
    factory: bool = False
    left_out: tuple[str, ...] = LEFT_OUT
    share: str = ""
    outermost: bool = False
    in_front: bool = True


def serve(served: Served, options: Sequence[str], *, workers: int = 1) -> None:
    """Serve an application by uvicorn until it is told to stop.

    Args:
        served: What.
        options: uvicorn's own, as on its command line.
        workers: How many processes; among several the cache is shared.

    Raises:
        ConfigurationError: A field cannot be left out.
        SystemExit: Otherwise always; as uvicorn's command does.
    """
    Rules(left_out=served.left_out)
    protocol = _protocol(options)
    directory = tempfile.mkdtemp(prefix="tiercel-") if workers > 1 else ""
    told = msgspec.structs.replace(served, in_front=bool(protocol), share=directory and f"local://{directory}")
    os.environ[_TOLD] = msgspec.json.encode(told).decode()
    try:
        command = ["tiercel.server:application", "--factory", *protocol, "--workers", str(workers), *options]
        uvicorn_command(command, prog_name="tiercel serve")
    finally:
        if directory:
            shutil.rmtree(directory, ignore_errors=True)


def application() -> Any:  # noqa: ANN401 - whatever the program calls its application
    """The application, told that it is served. uvicorn calls this in each worker.

    Raises:
        ConfigurationError: Its cache cannot be where the workers share it.
        SystemExit: There is no such application.
    """
    served = msgspec.json.decode(os.environ[_TOLD], type=Served)
    try:
        found = import_from_string(served.app)
    except ImportFromStringError as error:
        sys.exit(f"Error loading ASGI app. {error}")
    app = found() if served.factory else found
    front = getattr(app, FRONT, None)
    if not isinstance(front, Front):
        _log.warning(
            "%s is served without a cache in front: it has none, or something around it that may have to run for every "
            "request. Call cache.install(app), or wrap it: CacheMiddleware(app, cache=cache). Add middleware by "
            "app.add_middleware, not around it.%s",
            served.app,
            _ALONE if served.share else "",
        )
        return app
    if served.in_front:
        front.serve(served.left_out, always=served.outermost)
    if served.share and front.engine.place is not None:
        front.engine.place(served.share)
        where = served.share.removeprefix("local://")
        logging.getLogger("uvicorn.error").info("What is cached is shared by the workers in %s while they run.", where)
    return app


def _protocol(options: Sequence[str]) -> list[str]:
    """The option for our protocol, if it is one that we know and nobody has asked for something else."""
    why = ""
    if os.environ.get("UVICORN_HTTP") or _given(options, "--http"):
        why = "--http is given"
    elif os.environ.get("UVICORN_LIMIT_CONCURRENCY") or _given(options, "--limit-concurrency"):
        why = "--limit-concurrency is given, and uvicorn counts the connections"
    elif uvicorn.__version__.rpartition(".")[0] not in KNOWN:
        why = f"uvicorn {uvicorn.__version__} is not known to tiercel ({', '.join(KNOWN)} is)"
    if why:
        _log.warning("%s: hits are answered by the cache as ASGI middleware.", why)
        return []
    return ["--http", "tiercel.server._protocol:HitProtocol"]


def _given(options: Sequence[str], name: str) -> bool:
    return any(option == name or option.startswith(f"{name}=") for option in options)
