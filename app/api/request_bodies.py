"""Before routing: a body of bounded size and depth that is really JSON, and text that PostgreSQL can hold."""

import re
from urllib.parse import unquote_to_bytes

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import respond
from app.api.json_text import parse_json
from app.errors import AppError

LONG_BYTES = 64 * 1024  # more is checked in a thread, so that other requests go on
BODYLESS = frozenset({"GET", "HEAD", "OPTIONS"})


class RequestBodies:
    """Reads a request's body, checks it and hands it on. `streamed` (`POST /path`) endpoints read theirs themselves."""

    def __init__(self, app: ASGIApp, *, max_bytes: int, streamed: re.Pattern[str]) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._streamed = streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; anything else passes."""
        if scope["type"] == "http":
            try:
                check_address(scope)
                streamed = self._streamed.fullmatch(f"{scope['method']} {scope['path']}")
                if not streamed and _has_body(scope):
                    body = await self._read(scope, receive)
                    content_type = Headers(scope=scope).get("content-type")
                    if len(body) > LONG_BYTES:
                        await run_in_threadpool(check_json, body, content_type)
                    else:
                        check_json(body, content_type)
                    receive = _replay(body, receive)
            except AppError as error:
                await respond(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdecimal() and int(announced) > self._max_bytes:
            raise self._too_large()
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body += message.get("body", b"")
            if len(body) > self._max_bytes:
                raise self._too_large()
            if not message.get("more_body", False):
                return bytes(body)

    def _too_large(self) -> AppError:
        return AppError(
            413,
            "request_too_large",
            f"The request body is larger than the {self._max_bytes:,} bytes that TAILOR_MAX_REQUEST_BYTES allows.",
        )


def _has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return scope["method"] not in BODYLESS or "content-length" in headers or "transfer-encoding" in headers


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body once more, then what the server has to say."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed


def check_address(scope: Scope) -> None:
    """Raises AppError 400 for a path or a query that is not UTF-8 or has a NUL in it."""
    query = scope.get("query_string", b"").replace(b"+", b" ")
    for place, raw in (("path", scope.get("raw_path") or b""), ("query", query)):
        try:
            text = unquote_to_bytes(raw).decode()
        except UnicodeDecodeError:
            raise AppError(400, "not_utf8", f"The {place} of the URL is not UTF-8; encode it as UTF-8.") from None
        if "\0" in text:
            raise AppError(400, "nul_character", f"The {place} of the URL has a NUL character (%00) in it; remove it.")


def check_json(body: bytes, content_type: str | None) -> None:
    """Raises AppError 422 for a body that is not JSON, and 400 for one that is but cannot be stored as text."""
    if not body:
        return
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise AppError(
            422,
            "not_json",
            f"The body is announced as {kind or 'nothing'!r}; send JSON with the header `Content-Type: "
            "application/json`.",
        )
    parse_json(body)
