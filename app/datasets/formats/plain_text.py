"""Plain text: documents with a blank line between them."""

from collections.abc import Generator, Iterator, Sequence

from app.catalog.tasks import TASKS
from app.datasets.formats.reader import Batch, in_batches
from app.datasets.lines import read_lines
from app.datasets.problems import Problems, Unit
from app.datasets.source import Source

EXTENSIONS = (".txt", ".text", ".md")
NAME = "text"
# A passage without a blank line is cut at a line end once it is as long as this: corpora with a text a line have none.
DOCUMENT_CHARACTERS = 1 << 16


class PlainText:
    """Documents of a text file, read in one pass; a document's position is its first line."""

    unit: Unit = "line"
    columns: tuple[str, ...] = ("text",)

    def __init__(self, source: Source, problems: Problems) -> None:
        self.blank_lines = 0
        self._source = source
        self._problems = problems
        self._documents = self._parse()

    def batches(self, wanted: Sequence[str]) -> Iterator[Batch]:
        """See RecordReader."""
        for positions, documents in in_batches(self._documents):
            yield Batch(positions, [documents for _ in wanted])

    def close(self) -> None:
        """See RecordReader."""
        self._documents.close()

    def _parse(self) -> Generator[tuple[int, int, str]]:
        lines: list[str] = []
        begin = size = 0
        for number, line in read_lines(self._source, self._problems):
            if line.isspace():
                self.blank_lines += 1
            else:
                begin = begin if lines else number
                lines.append(line.rstrip("\r\n"))
                size += len(line)
            if lines and (line.isspace() or size >= DOCUMENT_CHARACTERS):
                yield begin, size, "\n".join(lines)
                lines, size = [], 0
        if lines:
            yield begin, size, "\n".join(lines)


def reading_tasks() -> list[str]:
    """Tasks whose records are texts and nothing else, at least in one variant."""
    return [
        spec.name
        for spec in TASKS.values()
        if any([field.type for field in variant.required] == ["text"] for variant in spec.variants)
    ]


def names_columns(line: bytes) -> bool:
    """Whether the first line of a file names columns of records: at least two cells that are fields' usual names."""
    text = line.decode("utf-8", "replace").casefold()
    names = {
        name
        for spec in TASKS.values()
        for variant in spec.variants
        for field in variant.fields
        for name in (field.name, *field.aliases)
    }
    cells = {cell.strip().strip('"') for delimiter in "\t,;" for cell in text.split(delimiter)}
    return len(cells & names) > 1
