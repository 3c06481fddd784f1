"""Physical lines of a text file, decoded one by one, with every line that is no text reported by number."""

import io
from collections.abc import Iterator

from app.datasets.encoding import guess_encoding
from app.datasets.problems import Problem, Problems
from app.datasets.source import BLOCK_BYTES, Source

UTF8_BOM = b"\xef\xbb\xbf"


def read_lines(source: Source, problems: Problems) -> Iterator[tuple[int, str]]:
    """Number (from 1) and text of each line, line end included. A line with a problem is reported and left out."""
    longest = source.limits.max_row_bytes
    with source.open() as stream:
        number = offset = 0
        while raw := stream.readline(longest + 1):
            number += 1
            offset += len(raw)
            if len(raw) > longest and not raw.endswith(b"\n"):
                offset += _skip_line(stream)
                problems.add(_too_long(source, number))
                continue
            if number == 1:
                raw = raw.removeprefix(UTF8_BOM)
            if b"\0" in raw:
                problems.add(_nul(source, number, raw, offset - len(raw)))
                continue
            try:
                text = raw.decode()
            except UnicodeDecodeError as error:
                problems.add(_not_utf8(source, number, raw, offset - len(raw), error))
                continue
            yield number, text


def _skip_line(stream: io.BufferedReader) -> int:
    skipped = 0
    while block := stream.readline(BLOCK_BYTES):
        skipped += len(block)
        if block.endswith(b"\n"):
            break
    return skipped


def _too_long(source: Source, number: int) -> Problem:
    return Problem(
        "row_too_long",
        f"the line is longer than {source.limits.max_row_bytes:,} bytes, the limit TAILOR_MAX_ROW_BYTES",
        "split the text over several records, or raise the setting",
        line=number,
    )


def _nul(source: Source, number: int, raw: bytes, start: int) -> Problem:
    at = raw.index(b"\0")
    return Problem(
        "nul_byte",
        f"NUL byte at byte offset {start + at:,} of the file; text files have none",
        "remove it: " + source.command(r"tr -d '\0'"),
        line=number,
        column=len(raw[:at].decode(errors="replace")) + 1,
    )


def _not_utf8(source: Source, number: int, raw: bytes, start: int, error: UnicodeDecodeError) -> Problem:
    guess = guess_encoding(raw)
    return Problem(
        "not_utf8",
        f"byte 0x{raw[error.start]:02x} at byte offset {start + error.start:,} of the file is not UTF-8; "
        f"the line looks like {guess}",
        f"convert the file to UTF-8: {source.command(f'iconv -f {guess} -t UTF-8')}",
        line=number,
        column=len(raw[: error.start].decode()) + 1,
    )
