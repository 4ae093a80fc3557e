"""Serve the storefront on 127.0.0.1:$PORT and, once it answers, print what to try."""

import os
import socket

import uvicorn

from storefront import demo


class Storefront(uvicorn.Server):
    """A server that says what to try as soon as it listens."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then print."""
        await super().startup(sockets)
        if self.started:
            demo.main()


def main() -> None:
    """Serve until Ctrl-C."""
    port = int(os.environ.get("PORT", "8000"))
    try:
        Storefront(uvicorn.Config("storefront.main:create_app", factory=True, host="127.0.0.1", port=port)).run()
    except KeyboardInterrupt:
        print("The storefront is closed.")
    except SystemExit:
        print(f"The storefront did not start. If port {port} is taken: make demo PORT={port + 1}")
        raise


if __name__ == "__main__":
    main()
