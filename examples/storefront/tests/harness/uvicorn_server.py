"""The application under a uvicorn of its own, started as the README says."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from storefront.settings import Settings

STOREFRONT = Path(__file__).parents[2]


def environment_of(settings: Settings) -> dict[str, str]:
    """These settings as variables; and where the programs are, when none of them is installed."""
    paths = os.pathsep.join([str(STOREFRONT), str(Path(__file__).parent), *(path for path in sys.path if path)])
    values = settings.model_dump(mode="json", exclude={"secret"}, exclude_none=True).items()
    told = {name: json.dumps(value) if isinstance(value, list) else str(value) for name, value in values}
    return {**os.environ, **{f"STOREFRONT_{name.upper()}": value for name, value in told.items()}, "PYTHONPATH": paths}


@contextmanager
def started(
    settings: Settings, factory: str = "storefront.main:create_app", program: str = "uvicorn"
) -> Generator[tuple[str, subprocess.Popen[str]]]:
    """Its URL, and its process."""
    command = [sys.executable, "-m", *program.split(), factory, "--factory", "--port", "0"]
    with subprocess.Popen(command, env=environment_of(settings), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said: list[str] = []
        try:
            for line in process.stderr:
                said.append(line)
                if "running on" in line:
                    break
            assert "running on" in "".join(said), "".join(said)
            yield said[-1].split()[4], process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)


@contextmanager
def serving(
    settings: Settings, factory: str = "storefront.main:create_app", program: str = "uvicorn"
) -> Generator[str]:
    """The URL of one that has to end cleanly by Ctrl-C."""
    with started(settings, factory, program) as (url, process):
        yield url
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        rest = process.stderr.read()
    assert "Finished server process" in rest
    assert "Traceback" not in rest
