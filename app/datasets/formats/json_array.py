"""One JSON array of objects over the whole file, as many tools export; read piece by piece."""

import codecs
import json
import re
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from app.datasets.errors import UnreadableFileError
from app.datasets.formats.jsonl import DECODER, broken_json, look_ahead, record_batches
from app.datasets.formats.reader import Batch
from app.datasets.problems import Problem, Problems, Unit, shown
from app.datasets.source import BLOCK_BYTES, Source

BETWEEN = re.compile(r"[\s,]*")
SPACE = re.compile(r"\s*")
AGAIN = "write it again with `json.dump`, or write one object a line (JSONL)"


class JsonArray:
    """Records of a JSON array; positions are record numbers."""

    unit: Unit = "row"
    blank_lines = 0

    def __init__(self, source: Source, problems: Problems) -> None:
        self._source = source
        self._problems = problems
        problems.unit = self.unit
        self._records = self._parse()
        self._head, self.columns = look_ahead(self._records)

    def batches(self, wanted: Sequence[str]) -> Iterator[Batch]:
        """See RecordReader."""
        head, self._head = self._head, []
        return record_batches(head, self._records, wanted)

    def close(self) -> None:
        """See RecordReader."""
        self._records.close()

    def _parse(self) -> Generator[tuple[int, int, dict[str, Any]]]:
        text = _Text(self._source)
        text.skip(SPACE)
        text.take("[")
        number = 0
        while True:
            text.skip(BETWEEN)
            if text.ended:
                raise UnreadableFileError(
                    Problem("invalid_json", "the array is not closed: the file is cut off", AGAIN, line=number or None)
                )
            if text.take("]"):
                break
            number += 1
            size, value = text.value(number)
            if isinstance(value, dict):
                yield number, size, value
            else:
                message = f"an element is no object with named fields but {shown(value)}"
                self._problems.add(Problem("not_an_object", message, 'write [{"text": …, "label": …}, …]', line=number))
        text.skip(SPACE)
        if not text.ended:
            message = f"something follows the array: {shown(text.rest())}"
            self._problems.add(Problem("trailing_content", message, AGAIN))


class _Text:
    """A window that moves over a file's text."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._longest = source.limits.max_row_bytes
        self._blocks = self._decode()
        self._buffer = ""
        self._at = 0
        self._line = 1
        self._column = 1
        self._more()

    @property
    def ended(self) -> bool:
        return self._at == len(self._buffer) and not self._more()

    def skip(self, pattern: re.Pattern[str]) -> None:
        while True:
            match = pattern.match(self._buffer, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._buffer) or not self._more():
                return

    def take(self, character: str) -> bool:
        found = self._buffer.startswith(character, self._at)
        self._at += found
        return found

    def rest(self) -> str:
        return self._buffer[self._at : self._at + 100]

    def value(self, number: int) -> tuple[int, Any]:
        """The value that begins here, and its length. What does not parse may merely go on in the next block."""
        while True:
            try:
                value, end = DECODER.raw_decode(self._buffer, self._at)
            except (ValueError, RecursionError) as error:
                may_go_on = isinstance(error, json.JSONDecodeError) and len(self._buffer) - self._at <= self._longest
                into = error.pos - self._at if isinstance(error, json.JSONDecodeError) else 0
                if not (may_go_on and self._more()):
                    raise UnreadableFileError(self._broken(number, error, into)) from None
                continue
            if end == len(self._buffer) and not isinstance(value, dict | list | str) and self._more():
                continue  # a number may go on
            size, self._at = end - self._at, end
            return size, value

    def _broken(self, number: int, error: ValueError | RecursionError, into: int) -> Problem:
        """What is wrong `into` characters into the value that begins here."""
        if len(self._buffer) - self._at > self._longest:
            message = f"the record is longer than {self._longest:,} bytes, the limit TAILOR_MAX_ROW_BYTES"
            fix = "split the text over several records, or raise the setting"
            return Problem("row_too_long", message, fix, line=number)
        at = self._at + into
        before = self._buffer[:at]
        line = self._line + before.count("\n")
        column = at - before.rfind("\n") if "\n" in before else self._column + at
        code, message, fix = broken_json(self._buffer[self._at : self._at + 1000], error)
        fix = AGAIN if code == "invalid_json" else fix
        return Problem(code, f"{message} (line {line:,} column {column:,} of the file)", fix, line=number)

    def _more(self) -> bool:
        """Read on, and forget what was passed; False at the end of the file."""
        block = next(self._blocks, "")
        passed = self._buffer[: self._at]
        if "\n" in passed:
            self._line += passed.count("\n")
            self._column = len(passed) - passed.rfind("\n")
        else:
            self._column += len(passed)
        self._buffer, self._at = self._buffer[self._at :] + block, 0
        return bool(block)

    def _decode(self) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        offset = 0
        with self._source.open() as stream:
            while True:
                raw = stream.read(BLOCK_BYTES)
                try:
                    text = decoder.decode(raw, final=not raw)
                except UnicodeDecodeError as error:
                    at = offset + error.start
                    raise UnreadableFileError(
                        Problem(
                            "not_utf8",
                            f"byte 0x{error.object[error.start]:02x} near byte offset {at:,} of the file is not UTF-8",
                            "write the file as UTF-8",
                        )
                    ) from None
                offset += len(raw)
                if text:
                    yield text
                if not raw:
                    return
