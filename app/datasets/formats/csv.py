"""CSV and TSV with a header line, quoted as in RFC 4180; the delimiter is a comma, a semicolon or a tab."""

import csv
from collections.abc import Generator, Iterator, Sequence
from operator import itemgetter

from app.datasets.errors import UnreadableFileError
from app.datasets.formats.reader import Batch, in_batches
from app.datasets.lines import read_lines
from app.datasets.problems import Problem, Problems, Unit, listed, shown
from app.datasets.source import Source

DELIMITERS = (",", ";", "\t")
DOUBLE_QUOTES = 'put the cell in quotes and write each quote inside it twice: "He said ""no"""'


class DelimitedText:
    """Records of a CSV or TSV file, read in one pass."""

    unit: Unit = "line"

    def __init__(self, source: Source, problems: Problems) -> None:
        self.blank_lines = 0
        self.delimiter = ","
        self._source = source
        self._problems = problems
        self._record_line = 0
        self._record_text = ""
        self._record_size = 0
        # A cell may be as long as a record; records are bounded while their lines are read.
        csv.field_size_limit(source.limits.max_row_bytes)
        self._records = self._parse()
        line, _, header = next(self._records, (0, 0, list[str]()))
        self._check_header(line, header)
        # Without its header no row can be understood.
        self.columns = () if problems.total else tuple(header)

    def batches(self, wanted: Sequence[str]) -> Iterator[Batch]:
        """See RecordReader."""
        indices = [self.columns.index(column) for column in wanted]
        for lines, rows in in_batches(self._whole_rows()):
            yield Batch(lines, [list(map(itemgetter(index), rows)) for index in indices])

    def _whole_rows(self) -> Iterator[tuple[int, int, list[str]]]:
        width = len(self.columns)
        for line, size, cells in self._records:
            if len(cells) == width:
                yield line, size, cells
            else:
                self._problems.add(self._ragged(line, cells))

    def close(self) -> None:
        """See RecordReader."""
        self._records.close()

    def _parse(self) -> Generator[tuple[int, int, list[str]]]:
        lines = self._lines()
        for first in lines:
            if not first.isspace():
                break
            self.blank_lines += 1
            self._record_line = 0
        else:
            return
        self.delimiter = max(DELIMITERS, key=lambda delimiter: _unquoted(first, delimiter))
        reader = csv.reader(_again(first, lines), delimiter=self.delimiter, strict=True)
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                self._problems.add(self._malformed(str(error)))
                cells = None
            if cells and (len(cells) > 1 or cells[0].strip()):
                yield self._record_line, self._record_size, cells
            elif cells is not None:
                self.blank_lines += 1
            self._record_line = 0

    def _lines(self) -> Iterator[str]:
        """The lines, while keeping where the record at hand began and how long it has become."""
        for number, text in read_lines(self._source, self._problems):
            if self._record_line == 0:
                self._record_line, self._record_text, self._record_size = number, text, 0
            self._record_size += len(text)
            if self._record_size > self._source.limits.max_row_bytes:
                raise UnreadableFileError(self._unterminated("is longer than TAILOR_MAX_ROW_BYTES"))
            yield text

    def _malformed(self, error: str) -> Problem:
        if error == "unexpected end of data":
            return self._unterminated("goes on to the end of the file")
        if error.startswith("new-line character"):
            message, fix = (
                "a carriage return outside of quotes",
                "end lines with \\n or \\r\\n, and quote cells with \\r",
            )
        else:
            message, fix = f"quotes are not as in RFC 4180: {error}", DOUBLE_QUOTES
        return Problem("malformed_quotes", message, fix, line=self._record_line)

    def _unterminated(self, how: str) -> Problem:
        return Problem(
            "unterminated_quote",
            f"the row that begins here {how}: a quote is opened and not closed",
            f"close it; where the quote is part of the text, {DOUBLE_QUOTES}",
            line=self._record_line,
            column=_open_quote(self._record_text, self.delimiter),
        )

    def _check_header(self, line: int, header: list[str]) -> None:
        seen: set[str] = set()
        for column in header:
            if column and column in seen:
                self._problems.add(
                    Problem(
                        "duplicate_column",
                        f"the header names the column {shown(column)} twice",
                        "give each column a name of its own",
                        line=line,
                    )
                )
            seen.add(column)

    def _ragged(self, line: int, cells: list[str]) -> Problem:
        delimiter = {"\t": "tab"}.get(self.delimiter, self.delimiter)
        return Problem(
            "wrong_cell_count",
            f"{len(cells):,} cells where the header has {len(self.columns):,} ({listed(self.columns, 8)})",
            f"put a cell that holds a {delimiter} or a line break in double quotes; leave no cell out",
            line=line,
        )


def _again(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _unquoted(line: str, delimiter: str) -> int:
    """How often `delimiter` stands outside of quotes."""
    return sum(part.count(delimiter) for part in line.split('"')[::2])


def _open_quote(line: str, delimiter: str) -> int | None:
    """Column, from 1, of the quote that is still open at the end of `line`; None if it is opened on a later line."""
    opened = 0
    inside = False
    before = delimiter
    for column, character in enumerate(line, 1):
        if character == '"' and (inside or before in (delimiter, '"')):
            inside = not inside
            if inside and before == delimiter:
                opened = column
        before = character
    return opened if inside else None
