"""How a replica hears that a client has left."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Disconnects:
    """Serve's proxy tells a replica of a client that left by a message, or by an exception where the question for the
    next message is cancelled first. An app knows the message alone, and would take the exception for a fault."""

    def __init__(self, app: ASGIApp, gone: type[Exception]) -> None:
        self._app = app
        self._gone = gone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def told() -> Message:
            try:
                return await receive()
            except self._gone:
                return {"type": "http.disconnect"}

        await self._app(scope, told if scope["type"] == "http" else receive, send)
