"""A file in a form, from the socket into the blob store: constant memory, and nothing left unless all is well."""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import anyio
from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request

from app.api.multipart import FileStart, FormField, FormReader, pieces
from app.errors import AppError
from app.files.limits import SizeLimit
from app.storage.blobs import CHUNK_BYTES, BlobRef, BlobStore, BlobWriter

FORM_OVERHEAD_BYTES = 1024 * 1024  # what the form may add to the file: boundaries, headers, fields
MAX_FILENAME = 255
UNSAFE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass
class ReceivedFile:
    """The one file of a form, under the form field `name`, on its way to the blob, and the fields beside it."""

    name: str
    limit: SizeLimit
    writer: BlobWriter
    filename: str = field(default="", init=False)
    size: int = field(default=0, init=False)
    form: dict[str, str] = field(default_factory=dict[str, str], init=False)
    _begun: bool = field(default=False, init=False)
    _buffer: bytearray = field(default_factory=bytearray, init=False)

    async def finish(self) -> BlobRef:
        """Make the blob complete. Without it nothing is kept."""
        await self._flush()
        return await run_in_threadpool(self.writer.finish)

    async def read(self, request: Request) -> None:
        """Everything in the form. Raises AppError where it is not one file of the right name and size."""
        reader = FormReader(request.headers.get("content-type"))
        async with aclosing(pieces(reader, request.stream())) as parts:
            async for piece in parts:
                match piece:
                    case FormField(name, value):
                        self._keep(name, value)
                    case FileStart(name, filename):
                        self._begin(name, filename)
                    case data:
                        await self._write(data)
        if not self._begun:
            message = f"{self.name} is missing; give the file as a part of the form."
            raise AppError(400, "missing_field", message, self.name)

    def _keep(self, name: str, value: str) -> None:
        if name in self.form:
            raise given_twice(name)
        if name == self.name:
            message = f"{name} is plain text; send it as a part with a filename (`curl -F {name}=@train.jsonl`)."
            raise AppError(400, "invalid_value", message, name)
        self.form[name] = value

    def _begin(self, name: str, filename: str) -> None:
        if name != self.name:
            message = f"Unknown file part {name!r}; the file's part is named {self.name!r}."
            raise AppError(400, "unknown_field", message, name)
        if self._begun:
            raise AppError(400, "duplicate_field", "Two files in one form; send one request for each.", name)
        self.filename, self._begun = base_name(filename), True

    async def _write(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > self.limit.bytes:
            raise self.limit.too_large
        self._buffer += data
        if len(self._buffer) >= CHUNK_BYTES:
            await self._flush()

    async def _flush(self) -> None:
        data, self._buffer = bytes(self._buffer), bytearray()
        await run_in_threadpool(self.writer.write, data)


@asynccontextmanager
async def receiving(request: Request, blobs: BlobStore, name: str, limit: SizeLimit) -> AsyncGenerator[ReceivedFile]:
    """Read the form; its file is kept if `finish` is called within. Raises AppError, and then nothing was stored."""
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limit.bytes + FORM_OVERHEAD_BYTES:
        raise limit.too_large
    async with _writer(blobs) as writer:
        received = ReceivedFile(name, limit, writer)
        await received.read(request)
        yield received


@asynccontextmanager
async def _writer(blobs: BlobStore) -> AsyncGenerator[BlobWriter]:
    """A blob writer whose every call runs in a thread; aborted also when the client or the server goes away."""
    writer = await run_in_threadpool(blobs.writer)
    try:
        yield writer
    finally:
        with anyio.CancelScope(shield=True):
            await run_in_threadpool(writer.__exit__, None, None, None)


def given_twice(name: str) -> AppError:
    """400 for a form field that comes twice."""
    return AppError(400, "duplicate_field", f"Form field {name!r} is given twice; give it once.", name)


def base_name(filename: str) -> str:
    """A client's file name without folders and control characters; it names a file and never a path."""
    name = UNSAFE.sub("", re.split(r"[/\\]", filename)[-1]).strip()
    if len(name) > MAX_FILENAME:
        stem, dot, ending = name.rpartition(".")
        keep = MAX_FILENAME - len(dot + ending)
        name = stem[:keep] + dot + ending if stem and keep > 0 else name[:MAX_FILENAME]
    return name if name.strip(".") else "upload"
