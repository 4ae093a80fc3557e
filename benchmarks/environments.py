"""A virtual environment for each peer, with the exact versions of `benchmarks/peers/NAME.txt`; made once."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOCKS = Path(__file__).parent / "peers"
PLACE = ROOT / ".venv-peers"
STAMP = ".made"
"""A copy of the lock that an environment was made from."""

_failed: dict[str, str] = {}


class NotInstalled(Exception):  # noqa: N818 - it is a row of a table, not an error
    """A peer cannot be had here; the reason."""


def provide(name: str) -> None:
    """Make the environment of a peer, unless it is there; what goes wrong is told by who needs it."""
    place, lock = PLACE / name, (LOCKS / f"{name}.txt").read_text()
    stamp = place / STAMP
    if stamp.exists() and stamp.read_text() == lock:
        return
    print(f"Installing {name} {version(name)} into {place.relative_to(ROOT)}: once")
    install = ("install", "-qq", "--require-hashes", "--no-deps", "-r", str(LOCKS / f"{name}.txt"))
    for command in (
        (sys.executable, "-m", "venv", "--clear", "--without-pip", str(place)),
        (sys.executable, "-m", "pip", "--python", str(_python(name)), *install),
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            _failed[name] = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
            return
    stamp.write_text(lock)


def python(name: str) -> Path:
    """The interpreter of a peer; raises `NotInstalled`."""
    if name in _failed:
        raise NotInstalled(_failed[name])
    if not (PLACE / name / STAMP).exists():
        raise NotInstalled("its environment has not been made")
    return _python(name)


def version(name: str) -> str:
    """Of the distribution, or of all that the peers' list asks for where none has its name."""
    lock = (LOCKS / f"{name}.txt").read_text()
    pinned: dict[str, str] = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", lock, re.MULTILINE))
    if name in pinned:
        return pinned[name]
    asked = re.findall(r"^[\w.-]+", (LOCKS / f"{name}.in").read_text(), re.MULTILINE)
    return ", ".join(f"{one} {pinned[one]}" for one in asked if one in pinned)


def _python(name: str) -> Path:
    return PLACE / name / "bin" / "python"
