"""Records in, padded batches out: prepared Parquet is tokenised once and kept in Arrow's list layout."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import DTypeLike, NDArray
from tokenizers import Encoding, Tokenizer
from transformers import PreTrainedTokenizerBase

from app.catalog.plan import DataFile
from worker.protocol import Log

TEXTS_PER_CALL = 4096  # a call's Python lists are freed before the next: memory stays at the flat arrays


@dataclass(frozen=True)
class Records:
    """One split: canonical records of the task, and the file they came from. Column `row` is the source's line."""

    split: str
    file: DataFile
    table: pa.Table

    def column(self, name: str) -> list[Any]:
        """A column as Python values."""
        return self.table.column(name).to_pylist()

    def take(self, rows: NDArray[np.int64]) -> "Records":
        """Some records, in their order."""
        return Records(self.split, self.file, self.table.take(pa.array(rows)))

    def sample(self, count: int, seed: int) -> "Records":
        """So many records at random, in their order; all of them where there are no more."""
        rows = self.table.num_rows
        if rows <= count:
            return self
        chosen = np.sort(np.random.default_rng(seed).choice(rows, count, replace=False))
        return self.take(chosen)


def read_records(split: str, file: DataFile, run_dir: Path) -> Records:
    """The split's Parquet file, whole."""
    with pq.ParquetFile(run_dir / file.path) as parquet:  # read_table() would import pandas first
        return Records(split, file, parquet.read())


@dataclass(frozen=True)
class Ragged:
    """Rows of unequal length: row i is `values[offsets[i]:offsets[i + 1]]`; `pad` fills a batch up."""

    values: NDArray[Any]
    offsets: NDArray[np.int64]
    pad: float

    @classmethod
    def of(cls, rows: Sequence[Sequence[float] | NDArray[Any]], dtype: DTypeLike, pad: float) -> "Ragged":
        """From rows as they are."""
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
        flat = [np.asarray(row, dtype=dtype) for row in rows]
        return cls(np.concatenate(flat) if flat else np.empty(0, dtype), offsets, pad)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Length of every row."""
        return np.diff(self.offsets)

    def row(self, index: int) -> NDArray[Any]:
        """One row, without padding."""
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def take(self, rows: NDArray[np.int64]) -> "Ragged":
        """Some rows, in their order."""
        parts = [self.row(int(index)) for index in rows]
        offsets = np.concatenate([[0], np.cumsum(self.lengths[rows])]).astype(np.int64)
        return Ragged(np.concatenate(parts) if parts else self.values[:0], offsets, self.pad)

    def matrix(self, rows: NDArray[np.int64], width: int, left: bool) -> NDArray[Any]:
        """Rows as a matrix [len(rows), width], padded on the right, or on the left. Integers become int64."""
        starts = self.offsets[rows]
        lengths = self.offsets[rows + 1] - starts
        columns = np.arange(width)[None, :] - ((width - lengths)[:, None] if left else 0)
        inside = (columns >= 0) & (columns < lengths[:, None])
        kind = np.int64 if np.issubdtype(self.values.dtype, np.integer) else self.values.dtype
        matrix = np.full((len(rows), width), self.pad, dtype=kind)
        matrix[inside] = self.values[(starts[:, None] + columns)[inside]]
        return matrix


class Draw(Protocol):
    """What is decided of a batch each time it is drawn, such as which tokens are masked."""

    @property
    def redraws(self) -> bool:
        """Whether a window has other inputs in each epoch."""
        ...

    def __call__(
        self, inputs: dict[str, NDArray[Any]], rows: NDArray[np.int64], epoch: int | None
    ) -> dict[str, NDArray[Any]]:
        """Change padded `inputs` [batch, tokens] in place and return further targets, of whatever shape.

        It is a function of the windows' numbers `rows` and of the epoch (None: evaluation), so that a run that was
        stopped goes on with the same, whatever the batches.
        """
        ...


@dataclass(frozen=True)
class Examples:
    """What a forward pass sees: `count` windows of records.

    `inputs` are the model's token inputs by argument name, of one length a window. `targets` are whatever the task
    compares or looks up by: arrays [windows, ...], or ragged rows, padded on the right to their longest in a batch.
    `weight` is a window's share in the loss; `record` says which record (0-based) it is a window of. `draw` completes a
    batch.
    """

    inputs: dict[str, Ragged]
    targets: dict[str, NDArray[Any] | Ragged]
    weight: NDArray[np.float32]
    record: NDArray[np.int64]
    pad_left: bool
    draw: Draw | None = None

    @property
    def count(self) -> int:
        """Number of windows."""
        return len(self.record)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of every window."""
        return self.inputs["input_ids"].lengths

    def of_records(self, records: NDArray[np.int64]) -> tuple[Self, NDArray[np.int64]]:
        """The windows of some records, given in rising order and renumbered from 0, and which windows they are."""
        windows = np.flatnonzero(np.isin(self.record, records))
        targets = {
            name: target.take(windows) if isinstance(target, Ragged) else target[windows]
            for name, target in self.targets.items()
        }
        inputs = {name: ragged.take(windows) for name, ragged in self.inputs.items()}
        numbers = np.searchsorted(records, self.record[windows])
        part = replace(self, inputs=inputs, targets=targets, weight=self.weight[windows], record=numbers)
        return part, windows

    def dense(self, name: str) -> NDArray[Any]:
        """A target that is an array."""
        target = self.targets[name]
        assert isinstance(target, np.ndarray)
        return target

    def ragged(self, name: str) -> Ragged:
        """A target of unequal rows."""
        target = self.targets[name]
        assert isinstance(target, Ragged)
        return target


@dataclass(frozen=True)
class Batch:
    """Tensors on the device: `inputs` [batch, tokens] are the model's arguments, `weight` is [batch].

    `targets` are [batch, ...], ragged ones [batch, longest], drawn ones as `Draw` says. `rows` are the windows'
    numbers in their `Examples`.
    """

    inputs: dict[str, torch.Tensor]
    targets: dict[str, torch.Tensor]
    weight: torch.Tensor
    rows: NDArray[np.int64]


def collate(examples: Examples, rows: NDArray[np.int64], device: torch.device, epoch: int | None = None) -> Batch:
    """Pad to the longest of the batch; on a GPU to a multiple of 8, which tensor cores want.

    `epoch` is that of training; None in evaluation.
    """
    lengths = examples.lengths[rows]
    width = int(lengths.max())
    if device.type != "cpu":
        width = -(-width // 8) * 8
    columns = np.arange(width)[None, :]
    mask = columns >= (width - lengths)[:, None] if examples.pad_left else columns < lengths[:, None]
    inputs = {name: ragged.matrix(rows, width, examples.pad_left) for name, ragged in examples.inputs.items()}
    inputs["attention_mask"] = mask.astype(np.int64)
    targets = {name: _rows_of(target, rows) for name, target in examples.targets.items()}
    if examples.draw is not None:
        targets |= examples.draw(inputs, rows, epoch)
    return Batch(
        inputs={name: _to_device(array, device) for name, array in inputs.items()},
        targets={name: _to_device(target, device) for name, target in targets.items()},
        weight=_to_device(examples.weight[rows], device),
        rows=rows,
    )


def _rows_of(target: NDArray[Any] | Ragged, rows: NDArray[np.int64]) -> NDArray[Any]:
    if isinstance(target, Ragged):
        return target.matrix(rows, int(target.lengths[rows].max(initial=0)), left=False)
    return target[rows]


def _to_device(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    tensor = torch.from_numpy(array)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True)
class Windows:
    """Tokenised texts. A longer text is several windows, each sharing tokens with the one before."""

    inputs: dict[str, Ragged]
    record: NDArray[np.int64]
    windows_of: NDArray[np.int64]  # [texts]


class WindowCollector:
    """Keeps the windows of texts as flat arrays; what Python made of them is freed as they come."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._pad = cast(int, tokenizer.pad_token_id)
        # A tokenizer without special tokens maps an empty text to nothing; a model needs one position to look at.
        self._empty = cast(int, self._pad if tokenizer.eos_token_id is None else tokenizer.eos_token_id)
        self._type_ids = "token_type_ids" in tokenizer.model_input_names
        self._type_pad: int = tokenizer.pad_token_type_id
        self._ids: list[NDArray[np.int32]] = []
        self._types: list[NDArray[np.int32]] = []
        self._windows_of: list[int] = []

    def add(self, windows: Sequence[Encoding]) -> None:
        """Take the windows of the next text."""
        self._windows_of.append(len(windows))
        for window in windows:
            self._ids.append(np.array(window.ids or [self._empty], dtype=np.int32))
            if self._type_ids:
                self._types.append(np.array(window.type_ids or [0], dtype=np.int32))

    def build(self) -> Windows:
        """Everything taken so far."""
        inputs = {"input_ids": Ragged.of(self._ids, np.int32, self._pad)}
        if self._type_ids:
            inputs["token_type_ids"] = Ragged.of(self._types, np.int32, self._type_pad)
        windows_of = np.array(self._windows_of, dtype=np.int64)
        return Windows(inputs, np.repeat(np.arange(len(windows_of)), windows_of), windows_of)


def plain_tokenizer(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """A copy of the fast tokenizer that neither cuts nor pads."""
    backend = Tokenizer.from_str(cast(Tokenizer, tokenizer.backend_tokenizer).to_str())
    backend.no_padding()
    backend.no_truncation()
    return backend


def windowing_tokenizer(tokenizer: PreTrainedTokenizerBase, max_length: int, stride: int) -> Tokenizer:
    """A copy of the fast tokenizer that cuts longer texts into windows sharing `stride` tokens."""
    backend = plain_tokenizer(tokenizer)
    backend.enable_truncation(max_length, stride=stride)
    return backend


def tokenize(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Windows:
    """Every text in windows of at most `max_length` tokens, special tokens included, that share a quarter."""
    backend = windowing_tokenizer(tokenizer, max_length, max_length // 4)
    collector = WindowCollector(tokenizer)
    for start in range(0, len(texts), TEXTS_PER_CALL):
        for encoding in backend.encode_batch_fast(list(texts[start : start + TEXTS_PER_CALL])):
            collector.add([encoding, *encoding.overflowing])
    return collector.build()


def overlapping_windows(records: Records, examples: Examples, max_length: int, noun: str = "texts") -> Log | None:
    """What to tell of records that did not fit into one window; None if all did."""
    rows = records.table.num_rows
    windows_of = np.bincount(examples.record, minlength=rows)
    long = windows_of > 1
    if not long.any():
        return None
    return Log(
        f"{int(long.sum())} of {rows} {records.split} {noun} are longer than {max_length} tokens. They are read "
        f"in {int(windows_of[long].sum())} overlapping windows; nothing is cut off.",
        data={"split": records.split, noun: int(long.sum()), "windows": examples.count, "max_length": max_length},
    )
