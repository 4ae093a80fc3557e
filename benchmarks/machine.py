"""Where it ran: the machine, who else was on it, and the versions of what matters."""

import os
import platform
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from benchmarks import environments

PACKAGES = ("tiercel", "fastapi", "starlette", "pydantic", "uvicorn", "uvloop", "httptools", "msgspec", "lmdb", "redis")
COMMANDS = (
    ("wrk", ("wrk", "--version"), r"(\d[\w.+-]*)"),
    ("redis-server", ("redis-server", "--version"), r"v=([\d.]+)"),
    ("nginx", ("nginx", "-v"), r"nginx/([\d.]+)"),
    ("Varnish", ("varnishd", "-V"), r"varnish-([\d.]+)"),
    ("valgrind", ("valgrind", "--version"), r"valgrind-([\d.]+)"),
)
"""How each tells its version."""
POLICIES = "policies"
"""The environment that is named after no distribution."""
NOTICEABLE = 0.05
"""From this share of its time on, what others do with the machine is worth a sentence."""

_BUSY = (0, 1, 2, 5, 6, 7)  # user, nice, system, irq, softirq, steal: proc_stat(5)
_TIMES = 8


def _used() -> tuple[float, float, float]:
    """CPU seconds of the machine that were used, that there were, and that this process and its children had."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1 : 1 + _TIMES]]
    scale = os.sysconf("SC_CLK_TCK")
    own = os.times()
    spent = own.user + own.system + own.children_user + own.children_system
    return sum(ticks[place] for place in _BUSY) / scale, sum(ticks) / scale, spent


@dataclass(frozen=True, slots=True)
class Meter:
    """How much of the machine others used since it was made."""

    _began: tuple[float, float, float] = field(default_factory=_used)

    def others(self) -> float:
        """Their share of its CPU time, 0 to 1."""
        busy, total, own = (now - then for now, then in zip(_used(), self._began, strict=True))
        return max(0.0, busy - own) / total if total else 0.0


def shared(others: float) -> str:
    if others < NOTICEABLE:
        return "Nothing else ran on it to speak of."
    return f"It was shared: others used {others:.0%} of its CPU time meanwhile, so that only ratios mean anything."


def machine() -> str:
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{_processor()}, {cores} cores, {memory:.0f} GiB; {platform.system()} {platform.release().partition('-')[0]}"
    )


def versions(peers: Iterable[str]) -> str:
    """Of what is measured, of the peers in environments of their own, and of the commands that are there."""
    found = [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in PACKAGES)]
    found += [f"{name} {environments.version(name)}" for name in peers if name != POLICIES]
    found += [environments.version(name) for name in peers if name == POLICIES]
    for name, command, pattern in COMMANDS:
        if told := _version(command, pattern):
            found.append(f"{name} {told}")
    return ", ".join(found)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(command: Sequence[str], pattern: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    found = re.search(pattern, done.stdout + done.stderr)
    return found[1] if found else ""
