"""Length distributions of prepared texts, in characters and in tokens of a model."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from app.catalog.generation import AUTO_TARGET_LENGTH
from app.catalog.records import RecordField
from app.datasets.canonical import read_records
from app.datasets.field_types import as_texts
from app.datasets.limits import Deadline
from app.datasets.report import Percentiles, TargetReport, TokenReport

# Beyond this many records every n-th is tokenised: the error of a share of 1 % is then below 0.1 points (95 %), and a
# vocabulary of word pieces takes 75 µs of CPU time for a sentence, so that this costs some four seconds.
SAMPLED_ROWS = 50_000
BATCH_TEXTS = 1024
BATCH_CHARACTERS = 1 << 20


def percentiles(lengths: Counter[int]) -> Percentiles:
    """Nearest-rank percentiles of a histogram {length: count} with at least one entry."""
    total = lengths.total()
    ordered = sorted(lengths.items())
    found: list[int] = []
    for percent in (5, 50, 95, 99):
        rank, seen = max(1, -(-percent * total // 100)), 0
        for length, count in ordered:
            seen += count
            if seen >= rank:
                found.append(length)
                break
    p5, p50, p95, p99 = found
    mean = round(sum(length * count for length, count in ordered) / total, 2)
    return {"min": ordered[0][0], "p5": p5, "p50": p50, "p95": p95, "p99": p99, "max": ordered[-1][0], "mean": mean}


def load_tokenizer(path: Path) -> Tokenizer:
    """A tokenizer that neither cuts nor pads. Raises ValueError for a file that is none."""
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(str(error)) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@dataclass(frozen=True)
class TokenCounter:
    """Counts the tokens of `rows` records, with the special tokens that the tokenizer adds; of many, every n-th."""

    records: Path
    rows: int
    tokenizer: Tokenizer
    deadline: Deadline

    def read(self, fields: Sequence[RecordField], model: str | None, max_length: int | None) -> TokenReport:
        """Of what the model reads, in `fields`; without `targets`."""
        lengths = self._lengths(fields)
        return {
            "model": model,
            "max_length": max_length,
            "sampled_rows": lengths.total(),
            "lengths": percentiles(lengths),
            "share_over_window": None if max_length is None else _share_over(lengths, max_length),
            "targets": None,
        }

    def written(self, field: RecordField, max_length: int | None) -> TargetReport:
        """Of what the model is to write, where a job leaves `max_target_length` to Tailor."""
        lengths = self._lengths([field])
        most = min(AUTO_TARGET_LENGTH, max_length or AUTO_TARGET_LENGTH)
        share = _share_over(lengths, most)
        return {"max_target_length": most, "lengths": percentiles(lengths), "share_over_max": share}

    def _lengths(self, fields: Sequence[RecordField]) -> Counter[int]:
        stride = -(-self.rows // SAMPLED_ROWS)
        lengths: Counter[int] = Counter()
        words = any(field.type == "words" for field in fields)
        for batch in _batches(islice(_texts(self.records, fields), 0, None, stride)):
            self.deadline.check()
            lengths.update(map(len, self.tokenizer.encode_batch_fast(batch, is_pretokenized=words)))
        return lengths


def _share_over(lengths: Counter[int], most: int) -> float:
    return sum(count for length, count in lengths.items() if length > most) / lengths.total()


def _texts(records: Path, fields: Sequence[RecordField]) -> Iterator[Any]:
    """One text a record, or its words; two fields make the pair that a model reads together, where both are there."""
    for columns in read_records(records, [field.name for field in fields]):
        if fields[0].type == "messages":
            yield from as_texts(fields[0], columns[0])
        elif len(columns) == 1:
            yield from columns[0]
        else:
            yield from (pair if pair[1] is not None else pair[0] for pair in zip(*columns, strict=True))


def _batches(texts: Iterator[Any]) -> Iterator[list[Any]]:
    batch: list[Any] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text) if isinstance(text, str) else sum(map(len, text))
        if len(batch) == BATCH_TEXTS or characters > BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
