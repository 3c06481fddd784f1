"""The HTTP server of `tailor serve`."""

import socket

import uvicorn
from fastapi import FastAPI

from app.api.state import State


class Server(uvicorn.Server):
    """uvicorn, which before it ends waits for every request to end, and here lets go of event streams first.

    The lifespan of the application would come too late: it ends after the last request.
    """

    def __init__(self, app: FastAPI, config: uvicorn.Config) -> None:
        self._app = app
        super().__init__(config)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End event streams, then everything."""
        state: State = self._app.state.serving
        state.feed.close()
        await super().shutdown(sockets)
