"""Texts with character spans in a column beside them, as doccano, Prodigy and Label Studio (JSON-MIN) export them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from app.datasets.alignment import Span, align
from app.datasets.formats.reader import Batch, RecordReader
from app.datasets.layouts.layout import Columns, LaidOut, Layout, Options, Sample
from app.datasets.problems import Problem, Problems, Unit, shown
from app.datasets.sequences import as_list
from app.datasets.values import InvalidValueError, label, text

TASK = "token-classification"
TEXTS = ("text", "content", "sentence", "data")
SPANS_OF = ("label", "labels", "entities", "spans", "annotations", "ner")
STARTS, ENDS = ("start", "start_offset", "begin"), ("end", "end_offset")
LABELS = ("label", "labels", "entity", "type", "tag")
FIX = 'write spans as [start, end, "LABEL"] or {"start": 0, "end": 5, "label": "LABEL"}'

# The text of a record and the raw values of its spans, from the values of its columns.
Look = Callable[[tuple[Any, ...]], tuple[str, list[Any]]]


class SpanRecords:
    """Records of another reader, their spans turned into tags of words."""

    columns: tuple[str, ...] = ("tokens", "tags")

    def __init__(
        self, reader: RecordReader, wanted: Sequence[str], look: Look, problems: Problems, warnings: Problems
    ) -> None:
        self._reader = reader
        self.source_columns = tuple(wanted)
        self.told: dict[str, str] = {}
        self._look = look
        self._problems = problems
        self._warnings = warnings

    @property
    def unit(self) -> Unit:
        """See RecordReader."""
        return self._reader.unit

    @property
    def blank_lines(self) -> int:
        """See RecordReader."""
        return self._reader.blank_lines

    def batches(self, wanted: Sequence[str]) -> Iterator[Batch]:
        """See RecordReader."""
        kept = [name for name in wanted if name not in self.columns]
        made_from = len(self.source_columns)
        for batch in self._reader.batches([*self.source_columns, *kept]):
            positions: list[int] = []
            columns: dict[str, list[Any]] = {name: [] for name in (*self.columns, *kept)}
            for position, values in zip(batch.positions, zip(*batch.columns, strict=True), strict=True):
                try:
                    words, tags = self._tagged(position, values[:made_from])
                except InvalidValueError as error:
                    field = self.source_columns[-1]
                    self._problems.add(
                        Problem(error.code, f"{shown(field)}: {error.message}", error.fix, line=position, field=field)
                    )
                    continue
                positions.append(position)
                columns["tokens"].append(words)
                columns["tags"].append(tags)
                for name, value in zip(kept, values[made_from:], strict=True):
                    columns[name].append(value)
            yield Batch(positions, [columns[name] for name in wanted])

    def close(self) -> None:
        """See RecordReader."""
        self._reader.close()

    def _tagged(self, position: int, values: tuple[Any, ...]) -> tuple[list[str], list[str]]:
        whole, raw = self._look(values)
        aligned = align(whole, [read_span(item, whole) for item in raw])
        for span, words in aligned.widened:
            part = shown(whole[span.start : span.end])
            message = f"the span {span.start:,} to {span.end:,}, {part}, cuts a word; it was widened to {shown(words)}"
            self._warnings.add(Problem("span_widened", message, "correct the offsets if that is wrong", line=position))
        return aligned.words, aligned.tags


def read_span(item: Any, whole: str) -> Span:
    """A span from a list or an object. Raises InvalidValueError for what is none."""
    if isinstance(item, list | tuple) and len(item) == 3:
        start, end, name = item
        said = None
    elif isinstance(item, dict):
        start, end, name = (_first(item, names) for names in (STARTS, ENDS, LABELS))
        said = item.get("text")
    else:
        raise InvalidValueError("malformed_span", f"{shown(item)} is no span", FIX)
    if isinstance(name, list):
        if len(name) != 1:
            message = f"a span has {len(name)} labels, {shown(name)}"
            raise InvalidValueError("several_labels", message, "a word has one tag: keep one label for every span")
        name = name[0]
    if type(start) is not int or type(end) is not int:
        raise InvalidValueError("malformed_span", f"the span {shown(item)} has no whole numbers as its ends", FIX)
    span = Span(start, end, label(name))
    return span if said is None or not isinstance(said, str) else _checked(span, said, whole)


def _checked(span: Span, said: str, whole: str) -> Span:
    """The span where its own text stands. Browsers count characters beyond U+FFFF twice; that is undone."""
    if whole[span.start : span.end] == said:
        return span
    units = whole.encode("utf-16-le")
    if units[2 * span.start : 2 * span.end].decode("utf-16-le", "replace") == said:
        start = len(units[: 2 * span.start].decode("utf-16-le", "replace"))
        return Span(start, start + len(said), span.label)
    raise InvalidValueError(
        "span_text_mismatch",
        f"the span {span.start:,} to {span.end:,} is said to be {shown(said)}, where the text has "
        f"{shown(whole[span.start : span.end])}",
        "correct the offsets: the text was changed after it was annotated",
    )


def _first(item: dict[Any, Any], names: tuple[str, ...]) -> Any:
    return next((item[name] for name in names if name in item), None)


def _is_span(item: object) -> bool:
    if isinstance(item, list):
        return len(item) == 3 and type(item[0]) is int and type(item[1]) is int and isinstance(item[2], str)
    return isinstance(item, dict) and _first(item, STARTS) is not None and _first(item, ENDS) is not None


def _columns(columns: Sequence[str], asked: Columns) -> tuple[str, str] | None:
    """The columns of the text and of the spans, by what the client said or by their usual names."""
    folded = {column.strip().casefold(): column for column in reversed(columns)}
    found: list[str] = []
    for field, names in (("tokens", TEXTS), ("tags", SPANS_OF)):
        column = asked.get(field) or next((folded[name] for name in names if name in folded), None)
        if column is None or column not in columns:
            return None
        found.append(column)
    return (found[0], found[1]) if found[0] != found[1] else None


def _recognise(columns: Sequence[str], asked: Columns, sample: Sample, told: bool) -> bool:
    found = _columns(columns, asked)
    if found is None or not set(asked) <= {"tokens", "tags"}:
        return False
    texts, spans = sample(found)
    lists = [as_list(value) for value in spans]
    if not all(isinstance(value, str) and as_list(value) is None for value in texts if value is not None):
        return False
    known = [items for items in lists if items is not None]
    if any(known):
        first = [item for items in known for item in items[:1]]
        return any(map(_is_span, first)) and not any(isinstance(item, str) for item in first)
    return told and bool(known) and len(known) == len(lists)


def _open(
    reader: RecordReader, asked: Columns, options: Options, sample: Sample, problems: Problems, warnings: Problems
) -> LaidOut:
    found = _columns(reader.columns, asked)
    assert found is not None

    def look(values: tuple[Any, ...]) -> tuple[str, list[Any]]:
        items = as_list(values[1])
        if items is None:
            raise InvalidValueError("malformed_spans", f"{shown(values[1])} is no list of spans", FIX)
        return text(values[0]), items

    return SpanRecords(reader, found, look, problems, warnings)


SPANS = Layout("spans", TASK, _recognise, _open)
