"""fastText's format: labels marked `__label__`, then the text, one record a line."""

from collections.abc import Generator, Iterator, Sequence
from typing import Any

from app.datasets.formats.reader import Batch, in_batches
from app.datasets.lines import read_lines
from app.datasets.problems import Problem, Problems, Unit, shown
from app.datasets.source import Source
from app.datasets.values import MarkedLabels

MARK = "__label__"  # before each label at the beginning of a line
FORM = "write a record as `__label__a __label__b the text`"


class FastText:
    """Records of a fastText file, read in one pass; its columns are `text` and `label`."""

    unit: Unit = "line"
    columns: tuple[str, ...] = ("text", "label")

    def __init__(self, source: Source, problems: Problems) -> None:
        self.blank_lines = 0
        self._source = source
        self._problems = problems
        self._records = self._parse()

    def batches(self, wanted: Sequence[str]) -> Iterator[Batch]:
        """See RecordReader."""
        for positions, records in in_batches(self._records):
            yield Batch(positions, [[record[column] for record in records] for column in wanted])

    def close(self) -> None:
        """See RecordReader."""
        self._records.close()

    def _parse(self) -> Generator[tuple[int, int, dict[str, Any]]]:
        for number, line in read_lines(self._source, self._problems):
            if line.isspace():
                self.blank_lines += 1
                continue
            labels, text = _split(line)
            problem = _problem(number, line, labels, text)
            if problem is not None:
                self._problems.add(problem)
                continue
            yield number, len(line), {"text": text, "label": MarkedLabels(labels)}


def _split(line: str) -> tuple[list[str], str]:
    """The labels at the beginning, and the rest without the space around it."""
    labels: list[str] = []
    rest = line.strip()
    while rest.startswith(MARK):
        label, *following = rest.split(maxsplit=1)
        labels.append(label.removeprefix(MARK))
        rest = following[0] if following else ""
    return labels, rest


def _problem(number: int, line: str, labels: list[str], text: str) -> Problem | None:
    if not labels:
        return Problem(
            "no_label",
            f"the line does not begin with {MARK}: {shown(line.strip())}",
            f"{FORM}; texts without any label need another format, such as JSONL with empty lists",
            line=number,
            column=1,
        )
    for word in text.split():
        if word.startswith(MARK):
            return Problem(
                "label_in_text",
                f"{shown(word)} stands behind the beginning of the text",
                "write all labels at the beginning of the line",
                line=number,
                column=line.rindex(word) + 1,
            )
    return None
