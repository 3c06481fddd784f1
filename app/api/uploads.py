"""POST /v1/files from the socket into the blob store: constant memory, and nothing left behind unless all is well."""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import anyio
from fastapi.concurrency import run_in_threadpool
from pydantic import ValidationError
from starlette.requests import Request

from app.api.json_text import parse_json
from app.api.multipart import FileStart, FormField, FormReader, pieces
from app.api.problems import refusal
from app.api.schemas.files import FileFields
from app.errors import AppError
from app.files.service import NewFile
from app.jobs import columns
from app.storage.blobs import CHUNK_BYTES, BlobStore, BlobWriter

FORM_OVERHEAD_BYTES = 1024 * 1024  # what the form may add to the file: boundaries, headers, fields
MAX_FILENAME = 255
BRACKETED = re.compile(r"(columns|expires_after)\[([^\[\]]+)\]")
UNSAFE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


async def receive_file(request: Request, blobs: BlobStore, max_bytes: int) -> NewFile:
    """Read an upload; its bytes are stored when this returns. Raises AppError, and then nothing was stored."""
    _check_announced_size(request, max_bytes)
    reader = FormReader(request.headers.get("content-type"))
    form: dict[str, str] = {}
    async with _writer(blobs) as writer, aclosing(pieces(reader, request.stream())) as parts:
        upload = _Upload(writer, max_bytes)
        async for piece in parts:
            match piece:
                case FormField(name, value):
                    if name in form or name == "file":
                        raise _given_twice(name) if name in form else _not_a_file()
                    form[name] = value
                case FileStart(name, filename):
                    upload.begin(name, filename)
                case data:
                    await upload.write(data)
        if upload.filename is None:
            raise AppError(400, "missing_field", "file is missing; give the file as a part of the form.", "file")
        fields = parse_fields(form)
        if upload.size == 0:
            raise AppError(400, "empty_file", f"File {upload.filename!r} is empty: 0 bytes were received.", "file")
        await upload.flush()
        blob = await run_in_threadpool(writer.finish)
    expires = fields.expires_after
    return NewFile(
        filename=upload.filename,
        purpose=fields.purpose,
        blob=blob,
        task=fields.task,
        columns=fields.columns or {},
        expires_after=timedelta(seconds=expires.seconds) if expires else None,
    )


def _check_announced_size(request: Request, max_bytes: int) -> None:
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > max_bytes + FORM_OVERHEAD_BYTES:
        raise _too_large(max_bytes)


def _too_large(max_bytes: int) -> AppError:
    return AppError(
        413,
        "file_too_large",
        f"The file is larger than the {max_bytes:,} bytes that TAILOR_MAX_FILE_BYTES allows.",
        "file",
    )


def _given_twice(name: str) -> AppError:
    return AppError(400, "duplicate_field", f"Form field {name!r} is given twice; give it once.", name)


def _not_a_file() -> AppError:
    return AppError(
        400,
        "invalid_value",
        "file is plain text; send it as a part with a filename (`curl -F file=@train.jsonl`).",
        "file",
    )


@asynccontextmanager
async def _writer(blobs: BlobStore) -> AsyncGenerator[BlobWriter]:
    """A blob writer whose every call runs in a thread; aborted also when the client or the server goes away."""
    writer = await run_in_threadpool(blobs.writer)
    try:
        yield writer
    finally:
        with anyio.CancelScope(shield=True):
            await run_in_threadpool(writer.__exit__, None, None, None)


@dataclass
class _Upload:
    """The one file of a form on its way to the blob: pieces of the socket's size become chunks."""

    writer: BlobWriter
    max_bytes: int
    filename: str | None = None
    size: int = 0

    def __post_init__(self) -> None:
        self._buffer = bytearray()

    def begin(self, name: str, filename: str) -> None:
        if name != "file":
            raise AppError(400, "unknown_field", f"Unknown file part {name!r}; the file's part is named 'file'.", name)
        if self.filename is not None:
            raise AppError(400, "duplicate_field", "Two files in one upload; send one request for each.", "file")
        self.filename = base_name(filename)

    async def write(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > self.max_bytes:
            raise _too_large(self.max_bytes)
        self._buffer += data
        if len(self._buffer) >= CHUNK_BYTES:
            await self.flush()

    async def flush(self) -> None:
        data, self._buffer = bytes(self._buffer), bytearray()
        await run_in_threadpool(self.writer.write, data)


def base_name(filename: str) -> str:
    """A client's file name without folders and control characters; it names a file and never a path."""
    name = UNSAFE.sub("", re.split(r"[/\\]", filename)[-1]).strip()
    if len(name) > MAX_FILENAME:
        stem, dot, ending = name.rpartition(".")
        keep = MAX_FILENAME - len(dot + ending)
        name = stem[:keep] + dot + ending if stem and keep > 0 else name[:MAX_FILENAME]
    return name if name.strip(".") else "upload"


def parse_fields(form: dict[str, str]) -> FileFields:
    """The fields beside the file. `columns` is JSON, or `columns[text]=review` as the SDK writes nested values."""
    values: dict[str, Any] = {}
    for name, text in form.items():
        match = BRACKETED.fullmatch(name)
        if match is None:
            values[name] = _json(name, text) if name in ("columns", "expires_after") else text
        elif match[1] in form:
            raise _given_twice(match[1])
        else:
            number = match[2] == "seconds" and re.fullmatch("[0-9]{1,18}", text)
            values.setdefault(match[1], {})[match[2]] = int(text) if number else text
    try:
        fields = FileFields.model_validate(values)
    except ValidationError as error:
        schema = FileFields.model_json_schema()
        raise refusal(error.errors(), values, schema, schema, place="form") from None
    columns.check(fields.task, fields.columns or {})
    return fields


def _json(name: str, text: str) -> object:
    try:
        return parse_json(text.encode(), name)
    except AppError as error:
        param = f"{name}.{error.param}" if error.param else name
        raise AppError(400, error.code, error.message, param, error.extra) from None
