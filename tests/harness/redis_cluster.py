"""A real cluster of Redis servers, made and changed as an operator does it."""

import subprocess
import time
from pathlib import Path

from redis.crc import key_slot
from redis_server import Server


def joined(*given: str) -> None:
    """What an operator types."""
    subprocess.run(["/usr/bin/redis-cli", *given, "--cluster-yes"], check=True, capture_output=True, timeout=60)


def cluster_of(primaries: list[Server], replicas: list[Server]) -> None:
    """Make one of servers that run."""
    addresses = [f"127.0.0.1:{server.port}" for server in (*primaries, *replicas)]
    joined("--cluster", "create", *addresses, "--cluster-replicas", str(len(replicas) // len(primaries)))
    deadline = time.monotonic() + 60
    while not all(
        "cluster_state:ok" in server.read("CLUSTER", "INFO") for server in (*primaries, *replicas)
    ) or not all("master_link_status:up" in server.read("INFO", "replication") for server in replicas):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def url_of(made: list[Server]) -> str:
    return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in made)


def node(server: Server) -> str:
    return server.read("CLUSTER", "MYID")


def holder(made: list[Server], key: str) -> Server:
    """Who has a key: the one that answers for its slot."""
    return next(server for server in made if not server.ask("EXISTS", key).startswith(b"-"))


def make(place: Path, *more: str) -> Server:
    return Server(
        place, "--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0", *more
    )


def moved(source: Server, target: Server, key: str) -> None:
    """Move the slot of a key, while whoever likes asks for it."""
    slot, keys = str(key_slot(key.encode())), list[str]()
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", node(source))
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", node(target))
    time.sleep(0.3)  # somebody asks while it is on its way
    for name in source.lines("CLUSTER", "GETKEYSINSLOT", slot, "1000"):
        assert source.ask("MIGRATE", "127.0.0.1", str(target.port), name, "0", "5000") == b"+OK"
        keys.append(name)
    assert keys
    for server in (target, source):
        assert server.ask("CLUSTER", "SETSLOT", slot, "NODE", node(target)) == b"+OK"
