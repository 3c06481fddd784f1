"""Parts of a file that are scored by themselves: by a column's values, or by length."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from app.catalog.records import RecordField, extra
from app.catalog.slices import ColumnSlices, LengthSlices
from worker.training.data import TEXTS_PER_CALL, Examples, Records
from worker.training.interfaces import Task

MOST = 50  # the largest ones; of the others their number is told
NO_VALUE = "(none)"


@dataclass(frozen=True)
class Slice:
    """Some records, by their numbers in rising order."""

    name: str
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class Slicing:
    """The largest slices, the name of every record's slice, and how many slices were left out."""

    slices: list[Slice]
    names: list[str]
    left_out: int


def cut(
    records: Records,
    by: ColumnSlices | LengthSlices,
    fields: tuple[RecordField, ...],
    tokenizer: PreTrainedTokenizerBase,
) -> Slicing:
    """Slices of `records`: by value the most frequent first, by length the shortest first."""
    if isinstance(by, LengthSlices):
        return _by_length(_lengths(records, fields, tokenizer), by.bins)
    return by_value(records, by.column)


def by_value(records: Records, column: str) -> Slicing:
    """Slices by the values of a kept column, the most frequent first."""
    values: list[str | None] = records.column(extra(column).name)
    names = [NO_VALUE if value is None else value for value in values]
    counts = Counter(names).most_common()
    found = np.array(names, dtype=object)
    slices = [Slice(name, np.flatnonzero(found == name)) for name, _ in counts[:MOST]]
    return Slicing(slices, names, len(counts) - len(slices))


def score_slices(
    task: Task, records: Records, examples: Examples, predictions: Sequence[Any], slicing: Slicing
) -> list[dict[str, Any]]:
    """Every slice's own metrics, by the same functions as those of the whole."""
    found: list[dict[str, Any]] = []
    for part in slicing.slices:
        of_part, windows = examples.of_records(part.rows)
        scores = task.score(records.take(part.rows), of_part, [predictions[window] for window in windows])
        intervals = scores.detail.get("intervals", {})
        found.append({"slice": part.name, "rows": len(part.rows), "metrics": scores.values, "intervals": intervals})
    return found


def _lengths(
    records: Records, fields: tuple[RecordField, ...], tokenizer: PreTrainedTokenizerBase
) -> NDArray[np.int64]:
    """Tokens of all that the model reads of each record, special ones left out."""
    lengths = np.zeros(records.table.num_rows, dtype=np.int64)
    for field in fields:
        if not field.is_read:
            continue
        column: list[Any] = records.column(field.name)
        if field.type == "messages":
            column = ["\n".join(message["content"] or "" for message in chat) for chat in column]
        for start in range(0, len(column), TEXTS_PER_CALL):
            chunk = [value or "" for value in column[start : start + TEXTS_PER_CALL]]
            lengths[start : start + len(chunk)] += _counts(chunk, tokenizer, words=field.type == "words")
    return lengths


def _counts(texts: list[Any], tokenizer: PreTrainedTokenizerBase, *, words: bool) -> list[int]:
    if not getattr(tokenizer, "is_fast", False):
        return [len(cast(Any, tokenizer)(text, add_special_tokens=False)["input_ids"]) for text in texts]
    backend = cast(Tokenizer, tokenizer.backend_tokenizer)
    return list(map(len, backend.encode_batch_fast(texts, is_pretokenized=words, add_special_tokens=False)))


def _by_length(lengths: NDArray[np.int64], bins: int) -> Slicing:
    """Slices of about as many records; equal lengths are in one."""
    inner = np.quantile(lengths, np.arange(1, bins) / bins, method="inverted_cdf")
    places = np.searchsorted(np.unique(inner), lengths, side="left")
    slices: list[Slice] = []
    names = np.empty(len(lengths), dtype=object)
    for place in np.unique(places):
        rows = np.flatnonzero(places == place)
        shortest, longest = int(lengths[rows].min()), int(lengths[rows].max())
        name = f"{shortest} tokens" if shortest == longest else f"{shortest} to {longest} tokens"
        slices.append(Slice(name, rows))
        names[rows] = name
    return Slicing(slices, names.tolist(), 0)
