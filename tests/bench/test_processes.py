"""Whatever ends a run of the benchmarks ends what it has started."""

import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
RUN = """
import os, signal, sys
from pathlib import Path
from benchmarks.processes import end_in_order, started

end_in_order()
waits = [sys.executable, "-c", "import signal; signal.pause()"]
with (
    started("one", waits, port=0, core=None, environment={}, alone=False) as one,
    started("other", waits, port=0, core=None, environment={}, alone=True) as other,
):
    for server in (one, other):
        while not Path(f"/proc/{server.process.pid}/cmdline").read_bytes().startswith(sys.executable.encode()):
            os.sched_yield()  # what is stopped, or left, before it has asked to die with this process does not
    other.process.send_signal(signal.SIGSTOP)
    print(one.process.pid, other.process.pid, flush=True)
    signal.pause()
"""

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def ended(pid: int) -> bool:
    """Whether a process ends in time; it need not be a child."""
    return bool(select.select([pid], [], [], PATIENCE)[0])


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="of util-linux, which each run needs")
@pytest.mark.realtime
@pytest.mark.parametrize("how", SIGNALS, ids=lambda how: how.name)
def test_servers_end_with_the_run_even_while_they_are_stopped(how: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RUN], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
    ) as run:
        assert run.stdout is not None
        servers = [os.pidfd_open(int(pid)) for pid in run.stdout.readline().split()]
        try:
            assert len(servers) == 2
            run.send_signal(how)
            assert all(map(ended, servers))
            assert run.wait(PATIENCE) != 0
        finally:
            for server in servers:
                os.close(server)
