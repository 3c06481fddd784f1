"""A multipart/form-data body read as it arrives: small fields whole, the file in pieces. Nothing touches the disk."""

from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.errors import AppError

MAX_FIELD_BYTES = 64 * 1024
MAX_PARTS = 100
MAX_HEADER_BYTES = 8 * 1024


@dataclass(frozen=True)
class FormField:
    """A part without a filename, whole."""

    name: str
    value: str


@dataclass(frozen=True)
class FileStart:
    """The head of a part with a filename; its bytes follow."""

    name: str
    filename: str


Piece = FormField | FileStart | bytes


@dataclass
class _Part:
    headers: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    header_name: bytes = b""
    header_value: bytes = b""
    name: str = ""
    is_file: bool = False
    value: bytearray = field(default_factory=bytearray)


class FormReader:
    """Turns the bytes of a body into pieces. `feed` returns what the bytes completed."""

    def __init__(self, content_type: str | None) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise AppError(
                422,
                "not_multipart",
                f"The body is announced as {content_type or 'nothing'!r}; send multipart/form-data with a boundary, "
                "for example `curl -F purpose=fine-tune -F file=@train.jsonl`.",
            )
        self._part = _Part()
        self._parts = 0
        self._ended = False
        self._pieces: list[Piece] = []
        try:
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_finished,
                    "on_part_data": self._data,
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
                max_header_size=MAX_HEADER_BYTES,
            )
        except FormParserError as error:
            raise _malformed(str(error)) from None

    def feed(self, data: bytes) -> list[Piece]:
        """Parse some bytes. Raises AppError 422 for a body that is not multipart/form-data."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _malformed(str(error)) from None
        pieces, self._pieces = self._pieces, []
        return pieces

    def close(self) -> None:
        """The body has ended. Raises AppError 422 if the form has not."""
        if not self._ended:
            raise AppError(
                422, "truncated_upload", "The body ends before the form's closing boundary; send the upload again."
            )

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise _malformed(f"it has more than {MAX_PARTS} parts")
        self._part = _Part()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._part.header_name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._part.header_value += data[start:end]

    def _header_end(self) -> None:
        part = self._part
        part.headers[part.header_name.lower()] = part.header_value
        part.header_name = part.header_value = b""

    def _headers_finished(self) -> None:
        part = self._part
        kind, options = parse_options_header(part.headers.get(b"content-disposition"))
        if kind != b"form-data" or b"name" not in options:
            raise _malformed("a part has no `Content-Disposition: form-data` with a name")
        part.name = _text(options[b"name"], "The name of a part")
        if b"filename" in options:
            part.is_file = True
            self._pieces.append(FileStart(part.name, _text(options[b"filename"], f"The filename of {part.name!r}")))

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part.is_file:
            self._pieces.append(data[start:end])
            return
        self._part.value += data[start:end]
        if len(self._part.value) > MAX_FIELD_BYTES:
            name = self._part.name
            raise AppError(
                413,
                "field_too_large",
                f"Form field {name!r} is larger than {MAX_FIELD_BYTES:,} bytes; a file needs a filename in its part.",
                name,
            )

    def _end_part(self) -> None:
        part = self._part
        if not part.is_file:
            self._pieces.append(FormField(part.name, _text(bytes(part.value), f"Form field {part.name!r}", part.name)))

    def _end(self) -> None:
        self._ended = True


def _malformed(reason: str) -> AppError:
    return AppError(422, "malformed_multipart", f"The body is not multipart/form-data: {reason}.")


def _text(raw: bytes, what: str, param: str | None = None) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise AppError(400, "not_utf8", f"{what} is not UTF-8; encode it as UTF-8.", param) from None
    if "\0" in text:
        raise AppError(400, "nul_character", f"{what} has a NUL character in it; remove it.", param)
    return text


async def pieces(reader: FormReader, body: AsyncIterable[bytes]) -> AsyncGenerator[Piece]:
    """Everything in the form, in its order."""
    async for data in body:
        for piece in reader.feed(data):
            yield piece
    reader.close()
