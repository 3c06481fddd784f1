"""The form of POST /v1/files: a file, and fields that say what it is for and how to read it."""

import re
from datetime import timedelta
from typing import Any

from pydantic import ValidationError
from starlette.requests import Request

from app.api.json_text import parse_json
from app.api.problems import refusal
from app.api.received_files import given_twice, receiving
from app.api.schemas.files import FileFields
from app.errors import AppError
from app.files.limits import SizeLimit
from app.files.service import NewFile
from app.jobs import columns
from app.storage.blobs import BlobStore

BRACKETED = re.compile(r"(columns|expires_after)\[([^\[\]]+)\]")


async def receive_file(request: Request, blobs: BlobStore, limit: SizeLimit) -> NewFile:
    """Read an upload; its bytes are stored when this returns. Raises AppError, and then nothing was stored."""
    async with receiving(request, blobs, "file", limit) as received:
        fields = parse_fields(received.form)
        if received.size == 0:
            raise AppError(400, "empty_file", f"File {received.filename!r} is empty: 0 bytes were received.", "file")
        blob = await received.finish()
    return NewFile(
        filename=received.filename,
        purpose=fields.purpose,
        blob=blob,
        task=fields.task,
        columns=fields.columns or {},
        expires_after=timedelta(seconds=fields.expires_after.seconds) if fields.expires_after else None,
    )


def parse_fields(form: dict[str, str]) -> FileFields:
    """The fields beside the file. `columns` is JSON, or `columns[text]=review` as the SDK writes nested values."""
    values: dict[str, Any] = {}
    for name, text in form.items():
        match = BRACKETED.fullmatch(name)
        if match is None:
            values[name] = _json(name, text) if name in ("columns", "expires_after") else text
        elif match[1] in form:
            raise given_twice(match[1])
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
