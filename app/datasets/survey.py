"""What prepared records look like: labels, lengths, duplicates, and what a careful person would want to know."""

import math
import re
from collections import Counter
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, cast

from app.catalog.records import RecordField
from app.datasets.canonical import ROW, read_records
from app.datasets.duplicates import DuplicateFinder
from app.datasets.field_types import as_texts
from app.datasets.lengths import percentiles
from app.datasets.limits import Deadline
from app.datasets.problems import Problem, Problems, listed
from app.datasets.report import DuplicateReport, NumberReport, Percentiles

IMBALANCE = 10
FEW_ROWS = 5
WORD = re.compile(r"\w")
HTML = re.compile(
    r"&(?:[a-z]{2,8}|#\d{1,7}|#x[0-9a-f]{1,6});|</?(?:br|p|div|span|a|b|i|em|strong|li|img)\b[^<>]*>", re.I
)


@dataclass(frozen=True)
class Survey:
    """Counts over all records; warnings go to the collector that was passed."""

    labels: dict[str, int] | None
    numbers: NumberReport | None
    characters: Percentiles
    duplicates: DuplicateReport


def survey(
    records: Path, fields: tuple[RecordField, ...], memory_bytes: int, deadline: Deadline, warnings: Problems
) -> Survey:
    """Read the prepared records once, batch by batch."""
    read = [field for field in fields if field.is_read]
    target = next((field for field in fields if field.target), None)
    columns = [*(field.name for field in read), *([target.name] if target else []), ROW]
    seen = _Targets(target)
    written = target is not None and target.type == "text"
    characters: Counter[int] = Counter()
    duplicates = DuplicateFinder(memory_bytes)
    for batch in read_records(records, columns):
        deadline.check()
        rows = cast(list[int], batch[-1])
        texts = [as_texts(field, column) for field, column in zip(read, batch[: len(read)], strict=True)]
        whole = texts[0] if len(texts) == 1 else ["\n".join(filter(None, parts)) for parts in zip(*texts, strict=True)]
        if target is None or written:
            pairs = zip(whole, cast(list[str], batch[len(read)]), strict=True) if written else ()
            duplicates.add(map("\n".join, pairs) if written else whole, None, rows)
        else:
            duplicates.add(whole, seen.add(batch[len(read)]), rows)
        characters.update(map(len, whole))
        for field, column in zip(read, texts, strict=True):
            _look_at(column, rows, field, warnings)
        if written and target is not None:
            _look_at(cast(list[str], batch[len(read)]), rows, target, warnings)
    found = duplicates.report()
    _warn_of_duplicates(found, warnings, "target" if written else "label")
    if target is not None and target.type == "label":
        _warn_of_labels(seen.labels, warnings)
    return Survey(seen.counts(), seen.summary(), percentiles(characters), found)


class _Targets:
    """Counts what is to be predicted."""

    def __init__(self, field: RecordField | None) -> None:
        self.labels: Counter[str] = Counter()
        self._type = field.type if field else None
        self._count, self._sum, self._squares = 0, 0.0, 0.0
        self._min, self._max = math.inf, -math.inf

    def add(self, column: list[Any]) -> list[str]:
        """Take a batch; returns what records of equal texts are compared by."""
        match self._type:
            case "label":
                self.labels.update(column)
                return column
            case "labels":
                self.labels.update(chain.from_iterable(column))
                return [", ".join(sorted(names)) for names in column]
            case "tags":
                found = (tag[2:] for tags in column for tag in tags if tag.startswith("B-"))
                self.labels.update(found)
            case "number":
                self._count += len(column)
                self._sum += math.fsum(column)
                self._squares += math.fsum(number * number for number in column)
                self._min, self._max = min(self._min, *column), max(self._max, *column)
            case _:
                pass
        return list(map(str, column))

    def counts(self) -> dict[str, int] | None:
        """Records of each class or entities of each type, the most frequent first; None where there are neither."""
        return dict(self.labels.most_common()) if self._type in ("label", "labels", "tags") else None

    def summary(self) -> NumberReport | None:
        """The numbers' range and spread; None where there are none."""
        if self._type != "number":
            return None
        mean = self._sum / self._count
        variance = max(0.0, self._squares / self._count - mean * mean)
        return {"min": self._min, "max": self._max, "mean": mean, "standard_deviation": math.sqrt(variance)}


def _look_at(texts: list[str], rows: list[int], read: RecordField, warnings: Problems) -> None:
    find_word, find_html = WORD.search, HTML.search
    field = read.name
    there = [(text, row) for text, row in zip(texts, rows, strict=True) if text or not read.optional]
    wordless = [row for text, row in there if not find_word(text)]
    for row in wordless:
        message, fix = "a text without a letter or digit", "check that it is meant to be there"
        warnings.add(Problem("no_words", message, fix, line=row, field=field))
    damaged = [row for text, row in zip(texts, rows, strict=True) if "\ufffd" in text]
    for row in damaged:
        message = "a replacement character (U+FFFD) stands where a character was lost in an earlier conversion"
        fix = "convert the original again with the right encoding"
        warnings.add(Problem("replacement_character", message, fix, line=row, field=field))
    marked = [row for text, row in zip(texts, rows, strict=True) if ("<" in text or "&" in text) and find_html(text)]
    for row in marked:
        message, fix = "HTML markup or entities in the text", "strip the markup (`html.unescape` decodes entities)"
        warnings.add(Problem("html", message, fix, line=row, field=field))


def _warn_of_duplicates(found: DuplicateReport, warnings: Problems, with_same: str) -> None:
    first = found["examples"][0]["rows"][0] if found["examples"] else None
    if found["conflicting_texts"]:
        labels = listed(found["examples"][0]["labels"])
        message = f"the same text has different labels ({labels})"
        fix = "decide on one label for each text"
        warnings.add(Problem("conflicting_duplicates", message, fix, line=first), found["conflicting_texts"])
    if found["same_label_texts"]:
        message = f"the same text with the same {with_same} stands in several records"
        fix = "remove the copies, unless they are meant to weigh more"
        line = None if found["conflicting_texts"] else first
        warnings.add(Problem("duplicates", message, fix, line=line), found["same_label_texts"])


def _warn_of_labels(labels: Counter[str], warnings: Problems) -> None:
    if len(labels) == 1:
        message = f"all records have the label {listed(list(labels))}"
        warnings.add(Problem("single_label", message, "add records of another label; training needs at least two"))
        return
    (_, most), *_, (_, least) = labels.most_common()
    if most >= IMBALANCE * least:
        message = f"the most frequent label has {most:,} records, the rarest {least:,}"
        fix = 'set the hyperparameter class_weights to "balanced", or add records of rare labels'
        warnings.add(Problem("class_imbalance", message, fix))
    rare = [label for label, count in labels.items() if count < FEW_ROWS]
    if rare:
        message = f"fewer than {FEW_ROWS} records for the labels {listed(rare, 10)}"
        warnings.add(Problem("rare_labels", message, "add records, or merge rare labels"), len(rare))
    spellings: dict[str, list[str]] = {}
    for label in labels:
        spellings.setdefault(label.casefold(), []).append(label)
    for names in spellings.values():
        if len(names) > 1:
            message = f"the labels {listed(names)} differ only in case and are different classes"
            warnings.add(Problem("label_case", message, "write each label in one way"))
