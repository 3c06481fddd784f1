"""SQuAD's JSON, versions 1.1 and 2.0: one document of articles, paragraphs and questions, read paragraph by paragraph.

A record is a question; its position is its number in the file, from 1.
"""

import io
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ijson

from app.datasets.encoding import guess_encoding
from app.datasets.errors import UnreadableFileError
from app.datasets.formats.reader import Batch, in_batches
from app.datasets.lines import UTF8_BOM
from app.datasets.problems import Problem, Problems, Unit, shown
from app.datasets.source import Source
from app.datasets.values import MISSING

COLUMNS = ("id", "context", "question", "answers")
ARTICLE, PARAGRAPHS, PARAGRAPH = "data.item", "data.item.paragraphs", "data.item.paragraphs.item"
BEGINNINGS = ("start_map", "start_array", "string", "number", "boolean", "null")  # parser's events that begin a value
BLOCK_BYTES = 1 << 16
EXCERPT_BYTES = 200


@dataclass(frozen=True)
class _Paragraph:
    """One paragraph, and where it stands (`data[2].paragraphs[0]`)."""

    path: str
    content: Any


class SquadDocument:
    """Questions of a SQuAD file, read in one pass with the memory of one paragraph."""

    unit: Unit = "row"

    def __init__(self, source: Source, problems: Problems) -> None:
        self.blank_lines = 0
        self.columns: tuple[str, ...] = COLUMNS
        self._source = source
        self._problems = problems
        self._number = 0
        self._records = self._read()

    def batches(self, wanted: Sequence[str]) -> Iterator[Batch]:
        """See RecordReader."""
        for positions, records in in_batches(self._records):
            yield Batch(positions, [[record.get(column, MISSING) for record in records] for column in wanted])

    def close(self) -> None:
        """See RecordReader."""
        self._records.close()

    def _read(self) -> Generator[tuple[int, int, dict[str, Any]]]:
        for paragraph in self._paragraphs():
            content = paragraph.content
            if not isinstance(content, dict):
                self._add("paragraph_not_object", f"{paragraph.path} is {shown(content)}, not an object")
                continue
            questions = content.get("qas")
            if not isinstance(questions, list):
                self._add("qas_not_list", f"{paragraph.path} has no list of questions `qas`, but {shown(questions)}")
                continue
            context = content.get("context", MISSING)
            size = len(context) if isinstance(context, str) else 0
            for index, question in enumerate(questions):
                self._number += 1
                if isinstance(question, dict):
                    yield self._number, size, self._record(context, question)
                else:
                    where = f"{paragraph.path}.qas[{index}]"
                    self._add("question_not_object", f"{where} is {shown(question)}, not an object", self._number)

    def _record(self, context: object, question: dict[str, Any]) -> dict[str, Any]:
        answers, impossible = question.get("answers", MISSING), question.get("is_impossible", False)
        if impossible is True:
            if answers:
                self._problems.add(
                    Problem(
                        "impossible_with_answers",
                        f"question {shown(question.get('id'))} is marked is_impossible and has answers, "
                        f"{shown(answers)}",
                        "remove the answers (SQuAD keeps them in `plausible_answers`), or set is_impossible to false",
                        line=self._number,
                        field="answers",
                    )
                )
            answers = []
        elif "is_impossible" in question and answers == []:
            self._problems.add(
                Problem(
                    "possible_without_answers",
                    f"question {shown(question.get('id'))} has is_impossible {shown(impossible)} and no answers",
                    "give its answers, or set is_impossible to true",
                    line=self._number,
                    field="answers",
                )
            )
        return {
            "id": question.get("id"),
            "context": context,
            "question": question.get("question", MISSING),
            "answers": answers,
        }

    def _add(self, code: str, message: str, number: int | None = None) -> None:
        """A problem of a question, or of what stands before the next one."""
        number = self._number + 1 if number is None else number
        fix = 'write {"data": [{"paragraphs": [{"context": "…", "qas": [{"id", "question", "answers"}]}]}]}'
        self._problems.add(Problem(code, message, fix, line=number))

    def _paragraphs(self) -> Iterator[_Paragraph]:
        with self._source.open() as file:
            stream = _Stream(file, self._source)
            article, number = -1, -1
            listed = False
            builder: ijson.ObjectBuilder | None = None
            try:
                for prefix, event, value in ijson.parse(stream, buf_size=BLOCK_BYTES, use_float=True):
                    if prefix == PARAGRAPH and builder is None:
                        builder, number = ijson.ObjectBuilder(), number + 1
                    if builder is not None:
                        builder.event(event, value)
                        if prefix == PARAGRAPH and event not in ("start_map", "start_array", "map_key"):
                            stream.unread = 0
                            yield _Paragraph(f"data[{article}].paragraphs[{number}]", builder.value)
                            builder = None
                    elif prefix == ARTICLE and event in BEGINNINGS:
                        article, number, listed = article + 1, -1, False
                        if event != "start_map":
                            found = "a list" if event == "start_array" else shown(value)
                            self._add("article_not_object", f"data[{article}] is {found}, not an object")
                    elif prefix == PARAGRAPHS and event == "start_array":
                        listed = True
                    elif prefix == ARTICLE and event == "end_map" and not listed:
                        self._add("paragraphs_not_list", f"data[{article}] has no list of `paragraphs`")
            except ijson.JSONError as error:
                raise UnreadableFileError(_broken(self._source, stream.offset, str(error))) from None


class _Stream:
    """What ijson reads from: counts, and refuses a paragraph that does not end."""

    def __init__(self, file: io.BufferedReader, source: Source, single_from: int | None = None) -> None:
        self.offset = 0
        self.unread = 0
        self.line, self.line_start = 1, 0
        self.tail = b""
        self._file = file
        self._source = source
        self._single_from = single_from
        self._skip_mark = True

    def read(self, size: int) -> bytes:
        """The next bytes; from `single_from` on one at a time, so that an error shows where it is."""
        if size and self._single_from is not None:
            size = 1 if self.offset >= self._single_from else min(size, self._single_from - self.offset)
        data = self._file.read(size)
        if self._skip_mark and size:
            self._skip_mark = False
            if data.startswith(UTF8_BOM):
                self.offset = self.line_start = len(UTF8_BOM)
                data = data[len(UTF8_BOM) :] or self._file.read(size)
        breaks = data.count(b"\n")
        if breaks:
            self.line += breaks
            self.line_start = self.offset + data.rindex(b"\n") + 1
        self.offset += len(data)
        self.unread += len(data)
        self.tail = (self.tail + data)[-EXCERPT_BYTES:]
        limit = self._source.limits.max_row_bytes
        if self.unread > limit + BLOCK_BYTES:
            raise UnreadableFileError(
                Problem(
                    "row_too_long",
                    f"a paragraph with its questions is longer than {limit:,} bytes, the limit TAILOR_MAX_ROW_BYTES",
                    "split the paragraph, or raise the setting",
                    line=None,
                )
            )
        return data


def _broken(source: Source, offset: int, message: str) -> Problem:
    """The problem at the byte that the parser stopped at, found by reading once more."""
    with source.open() as file:
        stream = _Stream(file, source, single_from=max(0, offset - BLOCK_BYTES))
        try:
            for _ in ijson.basic_parse(stream, buf_size=BLOCK_BYTES, use_float=True):
                stream.unread = 0
        except ijson.JSONError as error:
            message = str(error)
    reason = message.strip().splitlines()[0]
    line_bytes = stream.tail[-(stream.offset - stream.line_start) :] if stream.offset > stream.line_start else b""
    column = stream.offset - stream.line_start
    place = f"line {stream.line} column {column} (byte {stream.offset:,} of the file)"
    if "UTF8" in reason or "UTF-8" in reason:
        return Problem(
            "not_utf8",
            f"at {place} stands what is not UTF-8; it looks like {guess_encoding(line_bytes)}",
            f"convert the file to UTF-8: {source.command(f'iconv -f {guess_encoding(line_bytes)} -t UTF-8')}",
        )
    if "EOF" in reason or "ncomplete" in reason:
        return Problem(
            "truncated_json",
            f"the JSON document is cut off: it ends at {place} inside an object or a list",
            "upload the whole file; `python -m json.tool FILE` checks it",
        )
    return Problem(
        "invalid_json",
        f"not valid JSON at {place}: {reason}",
        "mend it there; `python -m json.tool FILE` checks a file",
    )
