"""Shadow mode: the application answers every request itself; the cache watches, and says what it would have done."""

from tiercel._core.status import CacheStatus
from tiercel._engine.call import Call
from tiercel._engine.fills import Fill
from tiercel._engine.flights import Message
from tiercel._engine.reading import reading


async def shadow(call: Call, fill: Fill) -> None:
    """Run the application as if there were no cache; `fill` hears what it says."""

    async def send(message: Message) -> None:
        status = CacheStatus(fwd="bypass", detail=fill.detail or None)
        await fill.heard(message)
        if message["type"] == "http.response.start":
            line = (b"cache-status", status.render())
            message = {**message, "headers": [*message.get("headers", ()), line]}
        await call.send(message)

    call.visitor.begun(fill)
    token = reading.set(fill.flight.reads)
    headers = call.request.headers if call.watch is None else call.watch.headers()
    try:
        await call.app({**call.scope, "headers": headers}, call.receive, send)
    except BaseException as error:
        fill.broke(error)
        raise
    finally:
        reading.reset(token)
        await call.visitor.ended()
    fill.returned()
