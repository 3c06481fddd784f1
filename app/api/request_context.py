"""Around every request: its id, its time, one line in the access log, and an answer to whatever went wrong inside."""

import logging
import re
import secrets
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import internal_error, respond

logger = logging.getLogger("tailor.access")

SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
CLIENT_GONE = 499  # nginx's number, for the log only


class RequestContext:
    """Pure ASGI, outermost of ours: what it adds is on every response, errors of any origin included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; anything else passes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        asked = Headers(scope=scope).get("x-request-id", "")
        request_id = asked if SANE_ID.fullmatch(asked) else f"req-{secrets.token_hex(12)}"
        scope.setdefault("state", {}).update(request_id=request_id, started=started)
        address = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")  # still escaped: one line of log
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["openai-processing-ms"] = str(round((time.monotonic() - started) * 1000))
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            status = CLIENT_GONE
        except Exception:
            logger.exception("%s %s %s failed", request_id, scope["method"], address)
            if status:  # the answer has begun: breaking it off is the only way to say that it is not whole
                raise
            await respond(internal_error(request_id))(scope, receive, send_with_headers)
        finally:
            elapsed_ms = (time.monotonic() - started) * 1000
            logger.info("%s %s %s %d %.1fms", request_id, scope["method"], address, status, elapsed_ms)
