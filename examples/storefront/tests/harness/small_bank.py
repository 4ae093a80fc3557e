"""A small bank: a real HTTP server, in a thread, that does as it is told."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class Bank:
    """Its rates, what it is asked, and whether it is in order."""

    def __init__(self) -> None:
        self.rates: dict[str, float] = {"EUR": 0.5}
        self.status = 200
        self.body: bytes | None = None
        self.asked: list[str] = []
        self.url = ""


@contextmanager
def running() -> Generator[Bank]:
    bank = Bank()

    class Clerk(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            bank.asked.append(self.path)
            body = json.dumps({"rates": bank.rates}).encode() if bank.body is None else bank.body
            self.send_response(bank.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the standard library
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Clerk) as server:
        bank.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield bank
        finally:
            server.shutdown()
            thread.join()
