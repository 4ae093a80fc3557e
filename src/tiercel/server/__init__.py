"""`tiercel serve`: uvicorn, with hits answered where the bytes of a request arrive.

    bytes → parser → fresh, and in front? ── yes ──▶ one write
                              └── no ──▶ uvicorn's own road: scope, task, ASGI

The cache then stands in front of the whole application: what its middleware adds is part of what is stored.
"""

from tiercel.server._serve import LEFT_OUT, Served, application, serve

__all__ = ["LEFT_OUT", "Served", "application", "serve"]
