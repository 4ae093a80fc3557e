"""The scripts that run in the server, each with what all of them share in front."""

from hashlib import sha1
from importlib.resources import files
from typing import Final, NamedTuple

from tiercel.stores.redis._places import Command, Connection


class Script(NamedTuple):
    """A script, and the name by which the server knows it."""

    text: bytes
    digest: bytes


def _script(name: str) -> Script:
    folder = files("tiercel.stores.redis") / "lua"
    text = b"\n".join([(folder / f"{part}.lua").read_bytes() for part in ("common", name)])
    return Script(text, sha1(text, usedforsecurity=False).hexdigest().encode())


GREET: Final = _script("greet")
FETCH: Final = _script("fetch")
PUT: Final = _script("put")
APPEND: Final = _script("append")
HOLD: Final = _script("hold")
HELD: Final = _script("held")
TEND: Final = _script("tend")
WITNESSES: Final = _script("witnesses")
RENEW: Final = _script("renew")
LENGTHEN: Final = _script("lengthen")
JUDGE: Final = _script("judge")
LEASE: Final = _script("lease")
DROP: Final = _script("drop")

ALL: Final = (GREET, FETCH, PUT, APPEND, HOLD, HELD, TEND, WITNESSES, RENEW, LENGTHEN, JUDGE, LEASE, DROP)


async def load(connection: Connection) -> None:
    """Make them known on a connection that has just been made."""
    await connection.on_connect()
    loads: list[Command] = [("SCRIPT", "LOAD", script.text) for script in ALL]
    await connection.send_packed_command(connection.pack_commands(loads), check_health=False)
    for _ in loads:
        await connection.read_response()
