"""JSON Lines: one object a line (RFC 8259, UTF-8)."""

import json
from collections.abc import Generator, Iterator, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

from app.datasets.formats.reader import Batch, in_batches
from app.datasets.lines import read_lines
from app.datasets.problems import Problem, Problems, Unit, shown
from app.datasets.source import Source
from app.datasets.values import MISSING

# The columns of the file are those of its first records; memory for looking ahead is bounded by both numbers.
HEAD_RECORDS = 1000
HEAD_CHARACTERS = 1 << 20
ONE_OBJECT_A_LINE = "write one JSON object a line, as `json.dumps(record)` or pandas' `to_json(lines=True)` do"


class _DuplicateKeyError(ValueError):
    pass


class _NotJsonConstantError(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        keys = [key for key, _ in pairs]
        raise _DuplicateKeyError(next(key for key in keys if keys.count(key) > 1))
    return record


def _refuse_constant(name: str) -> Any:
    raise _NotJsonConstantError(name)


# Position, size in characters, record.
Positioned = tuple[int, int, dict[str, Any]]
LINE_ENDS = ("\n", "\r\n", "")
DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)


def _decode(line: str) -> Any:
    """The line's value. A line from brace to line break spares the decoder's two searches for white space."""
    if line.startswith("{"):
        value, end = DECODER.raw_decode(line)
        if line[end:] in LINE_ENDS:
            return value
    return DECODER.decode(line)


def look_ahead(records: Iterator[Positioned]) -> tuple[list[Positioned], tuple[str, ...]]:
    """The first records, and the columns that they have."""
    head: list[Positioned] = []
    characters = 0
    for number, size, record in records:
        head.append((number, size, record))
        characters += size
        if len(head) == HEAD_RECORDS or characters > HEAD_CHARACTERS:
            break
    return head, tuple(dict.fromkeys(key for *_, record in head for key in record))


def record_batches(head: list[Positioned], rest: Iterator[Positioned], wanted: Sequence[str]) -> Iterator[Batch]:
    """The columns of all records; what a record does not have is missing."""
    for positions, records in in_batches(chain(head, rest)):
        try:
            yield Batch(positions, [list(map(itemgetter(column), records)) for column in wanted])
        except KeyError:
            yield Batch(positions, [[record.get(column, MISSING) for record in records] for column in wanted])


class JsonLines:
    """Records of a JSONL file, read in one pass."""

    unit: Unit = "line"

    def __init__(self, source: Source, problems: Problems) -> None:
        self.blank_lines = 0
        self._source = source
        self._problems = problems
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
        for number, line in read_lines(self._source, self._problems):
            try:
                record = _decode(line)
            except (ValueError, RecursionError) as error:
                if line.isspace():
                    self.blank_lines += 1
                else:
                    self._problems.add(_broken(number, line, error))
                continue
            if type(record) is dict:
                yield number, len(line), record
            else:
                self._problems.add(_not_an_object(number, line, record))


def _not_an_object(number: int, line: str, value: object) -> Problem:
    kinds: dict[type, str] = {list: "an array", str: "a string", type(None): "null", bool: "a boolean"}
    kind = kinds.get(type(value), "a number")
    return Problem(
        "not_an_object",
        f"the line is {kind}, {shown(line.strip())}, not an object with named fields",
        'write {"text": …, "label": …}',
        line=number,
        column=1,
    )


def _broken(number: int, line: str, error: ValueError | RecursionError) -> Problem:
    column = None
    if isinstance(error, json.JSONDecodeError):
        column = min(error.pos, len(line.rstrip("\r\n"))) + 1
    code, message, fix = broken_json(line, error)
    return Problem(code, message, fix, line=number, column=column)


def broken_json(line: str, error: ValueError | RecursionError) -> tuple[str, str, str]:
    """Code, message and fix for a line that is no JSON."""
    if isinstance(error, RecursionError):
        return "too_deeply_nested", "the JSON is nested too deeply", "flatten the record"
    if isinstance(error, _DuplicateKeyError):
        key = shown(error.args[0])
        return "duplicate_key", f"the key {key} stands twice in one object", "keep one of them"
    if isinstance(error, _NotJsonConstantError):
        return "not_a_json_number", f"{error.args[0]} is not JSON", "write null, or leave the field out"
    if not isinstance(error, json.JSONDecodeError):
        return "not_a_json_number", f"a number that cannot be read ({error})", "write it as a string"
    text = line.strip()
    message = f"not valid JSON: {error.msg}"
    if text.startswith(("{'", "{u'")):
        return "invalid_json", message, "use double quotes: `json.dumps(record)`, not `str(record)`"
    if error.msg == "Extra data" and text.startswith("{"):
        return "invalid_json", message, "write one object a line, with no comma between or after them"
    if error.msg.startswith("Invalid control character"):
        return "invalid_json", message, r"write line breaks and tabs inside strings as \n and \t"
    if text.startswith("{") and not text.endswith("}") and error.pos >= len(text) - 1:
        return "invalid_json", message, f"the object is cut off; end it on its own line: {ONE_OBJECT_A_LINE}"
    if not text.startswith(("{", "[")) and any(delimiter in text for delimiter in ",;\t"):
        return "invalid_json", f"{message}; it looks like CSV", f"name a CSV file .csv; for JSONL {ONE_OBJECT_A_LINE}"
    return "invalid_json", message, ONE_OBJECT_A_LINE
