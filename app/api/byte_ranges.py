"""Bytes over HTTP (RFC 9110): whole or one range, with strong ETags: a broken download goes on where it stopped."""

import base64
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from app.api.errors import respond
from app.errors import AppError

ONE_RANGE = re.compile(r"bytes=(\d{0,40})-(\d{0,40})", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Download:
    """Something to download: `read(start, stop)` yields its bytes, `etag` changes whenever they do.

    A browser saves it, or shows it where it is `inline`.
    """

    filename: str
    size: int
    etag: str
    read: Callable[[int, int], Iterator[bytes]]
    media_type: str = "application/octet-stream"
    headers: dict[str, str] = field(default_factory=dict[str, str])
    shown: Literal["attachment", "inline"] = "attachment"


def content_hash_headers(sha256: str) -> dict[str, str]:
    """The hash of the whole content: `Repr-Digest` (RFC 9530) for programs, hexadecimal for `sha256sum -c`."""
    encoded = base64.b64encode(bytes.fromhex(sha256)).decode()
    return {"repr-digest": f"sha-256=:{encoded}:", "x-content-sha256": sha256}


def serve(request: Request, download: Download) -> Response:
    """200, 206, 304 or 416. Run in a thread: the first piece is read here, while an error can still be told."""
    etag = f'"{download.etag}"'
    headers = {
        **download.headers,
        "etag": etag,
        "accept-ranges": "bytes",
        "content-disposition": disposition(download.filename, download.shown),
        "x-content-type-options": "nosniff",
    }
    if _matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    if_range = request.headers.get("if-range")
    asked = request.headers.get("range") if if_range is None or if_range == etag else None
    start, stop = 0, download.size
    status = 200
    if asked is not None and (match := ONE_RANGE.fullmatch(asked.strip())) and match[0] != "bytes=-":
        start, stop = _bounds(match[1], match[2], download.size)
        if start >= stop:
            message = f"Range {asked!r} lies outside of the {download.size:,} bytes there are."
            error = AppError(416, "range_not_satisfiable", message, "range")
            return respond(error, {"content-range": f"bytes */{download.size}", "etag": etag})
        headers["content-range"] = f"bytes {start}-{stop - 1}/{download.size}"
        status = 206
    headers["content-length"] = str(stop - start)
    if request.method == "HEAD" or start == stop:
        return Response(status_code=status, headers=headers, media_type=download.media_type)
    pieces = download.read(start, stop)
    try:
        first = next(pieces)
    except LookupError:
        raise AppError(404, "content_deleted", "Its bytes were deleted while they were being asked for.") from None
    return StreamingResponse(
        itertools.chain((first,), pieces), status_code=status, headers=headers, media_type=download.media_type
    )


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    if not first:
        return (max(size - int(last), 0) if int(last) else size), size
    return int(first), min(int(last) + 1, size) if last else size


def _matches(header: str | None, etag: str) -> bool:
    if header is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return "*" in tags or etag in tags


def disposition(filename: str, shown: Literal["attachment", "inline"] = "attachment") -> str:
    """`attachment` or `inline` with the name in ASCII and in UTF-8 (RFC 6266)."""
    plain = re.sub(r'[^\x20-\x7e]|["\\%]', "_", filename)
    encoded = f"; filename*=UTF-8''{quote(filename, safe='')}" if plain != filename else ""
    return f'{shown}; filename="{plain}"{encoded}'
