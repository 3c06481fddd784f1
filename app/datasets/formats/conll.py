"""CoNLL columns: a word a line with its tag in the last column, and a blank line after each sentence."""

import re
from collections.abc import Generator, Iterator, Sequence
from itertools import islice
from operator import itemgetter

from app.datasets.errors import UnreadableFileError
from app.datasets.formats import plain_text
from app.datasets.formats.reader import Batch, in_batches
from app.datasets.formats.structured import StructuredFormat
from app.datasets.lines import read_lines
from app.datasets.problems import Problem, Problems, Unit, shown
from app.datasets.source import Source
from app.datasets.tag_schemes import is_tag

TASK = "token-classification"
EXTENSIONS = (".conll", ".conll2003", ".bio", ".iob", ".iob2", ".bioes", ".ner")
DOCUMENT = "-DOCSTART-"
SPACES = re.compile(r"[ \t]+")
BLANK = " \t\r\n"
TAGGED_SHARE = 0.5

Sentence = tuple[list[str], list[str]]


class ConllColumns:
    """Sentences of a CoNLL file, read in one pass; a sentence's position is the line of its first word."""

    unit: Unit = "line"
    columns: tuple[str, ...] = ("tokens", "tags")

    def __init__(self, source: Source, problems: Problems) -> None:
        self.blank_lines = 0
        self._source = source
        self._problems = problems
        self._sentences = self._parse()

    def batches(self, wanted: Sequence[str]) -> Iterator[Batch]:
        """See RecordReader."""
        places = [self.columns.index(column) for column in wanted]
        for positions, sentences in in_batches(self._sentences):
            yield Batch(positions, [list(map(itemgetter(place), sentences)) for place in places])

    def close(self) -> None:
        """See RecordReader."""
        self._sentences.close()

    def _parse(self) -> Generator[tuple[int, int, Sentence]]:
        words: list[str] = []
        tags: list[str] = []
        begin = size = width = 0
        for number, text in read_lines(self._source, self._problems):
            line = text.strip(BLANK)
            if not line or line.startswith(DOCUMENT):
                if words:
                    yield begin, size, (words, tags)
                    words, tags, size = [], [], 0
                continue
            cells = _cells(text)
            if line.startswith("# ") and not words and len(cells) != width:
                continue  # a comment, such as `# id 7`, stands before its sentence
            if len(cells) < 2:
                self._problems.add(_untagged(number, line))
                continue
            width = width or len(cells)
            if len(cells) != width:
                self._problems.add(_ragged(number, len(cells), width))
                continue
            begin = begin if words else number
            words.append(cells[0])
            tags.append(cells[-1])
            size += len(text)
            if size > self._source.limits.max_row_bytes:
                raise UnreadableFileError(_endless(begin))
        if words:
            yield begin, size, (words, tags)


def _cells(line: str) -> list[str]:
    """Cells between tabs where there are any, so that a word may hold a space; else between spaces."""
    line = line.rstrip("\r\n")
    if "\t" in line:
        return [cell.strip(" ") for cell in line.rstrip("\t ").split("\t")]
    return SPACES.split(line.strip(" "))


def looks_like_conll(head: bytes, extension: str, told: bool) -> bool:
    """Whether lines end in tags; most of them, with gaps between sentences, where the name says nothing.

    A name of its own will do as well. Where the task is known, lines of equal width with gaps will do.
    """
    try:
        text = head.decode()
    except UnicodeDecodeError:
        text = head.decode(errors="replace")
    lines = [line for line in text.split("\n") if not line.startswith((DOCUMENT, "# "))]
    rows = list(islice((_cells(line) for line in lines if line.strip(BLANK)), 1000))
    if not rows or rows[0][0].startswith(("{", "[{")):
        return False
    if extension in EXTENSIONS:
        return True
    tags = [cells[-1] for cells in rows if len(cells) > 1 and is_tag(cells[-1])]
    widths = {len(cells) for cells in rows}
    gaps = any(not line.strip(BLANK) for line in lines[:-1])
    mostly = len(tags) > TAGGED_SHARE * len(rows)
    if told:
        return mostly or (len(widths) == 1 and min(widths) > 1 and gaps)
    whole = len(tags) == len(rows) and len(widths) == 1
    unnamed = extension in ("", *plain_text.EXTENSIONS)
    return (whole or (mostly and gaps and unnamed)) and set(tags) != {"O"}


def _untagged(number: int, line: str) -> Problem:
    return Problem(
        "wrong_cell_count",
        f"one column, {shown(line)}, where a word and its tag are expected",
        "write word and tag on a line, with a tab or space between them, and a blank line after each sentence",
        line=number,
    )


def _ragged(number: int, found: int, width: int) -> Problem:
    return Problem(
        "wrong_cell_count",
        f"{found} columns where the lines before have {width}",
        "give every line the same columns; where words hold spaces, put tabs between the columns",
        line=number,
    )


def _endless(begin: int) -> Problem:
    return Problem(
        "row_too_long",
        "the sentence that begins here is longer than TAILOR_MAX_ROW_BYTES",
        "put a blank line after each sentence",
        line=begin,
    )


CONLL = StructuredFormat("conll", TASK, looks_like_conll, ConllColumns)
