"""Records in, padded batches out: prepared Parquet is tokenised once and kept in Arrow's list layout."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from app.catalog.plan import DataFile

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


def read_records(split: str, file: DataFile, run_dir: Path) -> Records:
    """The split's Parquet file, whole."""
    with pq.ParquetFile(run_dir / file.path) as parquet:  # read_table() would import pandas first
        return Records(split, file, parquet.read())


@dataclass(frozen=True)
class Ragged:
    """Rows of unequal length: row i is `values[offsets[i]:offsets[i + 1]]`; `pad` fills a batch up."""

    values: NDArray[np.int32]
    offsets: NDArray[np.int64]
    pad: int

    def matrix(self, rows: NDArray[np.int64], width: int, left: bool) -> NDArray[np.int64]:
        """Rows as a matrix [len(rows), width], padded on the right, or on the left."""
        starts = self.offsets[rows]
        lengths = self.offsets[rows + 1] - starts
        columns = np.arange(width)[None, :] - ((width - lengths)[:, None] if left else 0)
        inside = (columns >= 0) & (columns < lengths[:, None])
        matrix = np.full((len(rows), width), self.pad, dtype=np.int64)
        matrix[inside] = self.values[(starts[:, None] + columns)[inside]]
        return matrix


@dataclass(frozen=True)
class Examples:
    """What a forward pass sees: `count` windows of records.

    `inputs` are the model's token inputs by argument name; `targets` one number a window; `weight` is its share in the
    loss; `record` says which record (0-based) it is a window of.
    """

    inputs: dict[str, Ragged]
    targets: dict[str, NDArray[np.int64]]
    weight: NDArray[np.float32]
    record: NDArray[np.int64]
    pad_left: bool

    @property
    def count(self) -> int:
        """Number of windows."""
        return len(self.record)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of every window."""
        return np.diff(self.inputs["input_ids"].offsets)


@dataclass(frozen=True)
class Batch:
    """Tensors on the device. `inputs` [batch, tokens] are the model's arguments; `targets` and `weight` are [batch]."""

    inputs: dict[str, torch.Tensor]
    targets: dict[str, torch.Tensor]
    weight: torch.Tensor


def collate(examples: Examples, rows: NDArray[np.int64], device: torch.device) -> Batch:
    """Pad to the longest of the batch; on a GPU to a multiple of 8, which tensor cores want."""
    lengths = examples.lengths[rows]
    width = int(lengths.max())
    if device.type != "cpu":
        width = -(-width // 8) * 8
    columns = np.arange(width)[None, :]
    mask = columns >= (width - lengths)[:, None] if examples.pad_left else columns < lengths[:, None]
    inputs = {name: ragged.matrix(rows, width, examples.pad_left) for name, ragged in examples.inputs.items()}
    inputs["attention_mask"] = mask.astype(np.int64)
    return Batch(
        inputs={name: _to_device(array, device) for name, array in inputs.items()},
        targets={name: _to_device(array[rows], device) for name, array in examples.targets.items()},
        weight=_to_device(examples.weight[rows], device),
    )


def _to_device(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    tensor = torch.from_numpy(array)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True)
class Windows:
    """Tokenised texts. A longer text is several windows, each sharing a quarter with the one before."""

    inputs: dict[str, Ragged]
    record: NDArray[np.int64]
    windows_of: NDArray[np.int64]  # [texts]

    @property
    def long_texts(self) -> int:
        """How many texts did not fit into one window."""
        return int((self.windows_of > 1).sum())


def tokenize(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Windows:
    """Every text in windows of at most `max_length` tokens, special tokens included."""
    backend = Tokenizer.from_str(cast(Tokenizer, tokenizer.backend_tokenizer).to_str())
    backend.no_padding()
    backend.enable_truncation(max_length, stride=max_length // 4)
    type_ids = "token_type_ids" in tokenizer.model_input_names
    # A tokenizer without special tokens maps an empty text to nothing; a model needs one position to look at.
    pad = cast(int, tokenizer.pad_token_id)
    empty = cast(int, pad if tokenizer.eos_token_id is None else tokenizer.eos_token_id)
    ids: list[NDArray[np.int32]] = []
    types: list[NDArray[np.int32]] = []
    windows_of = np.empty(len(texts), dtype=np.int64)
    for start in range(0, len(texts), TEXTS_PER_CALL):
        chunk = list(texts[start : start + TEXTS_PER_CALL])
        for index, encoding in enumerate(backend.encode_batch_fast(chunk), start):
            windows = [encoding, *encoding.overflowing]
            windows_of[index] = len(windows)
            for window in windows:
                ids.append(np.array(window.ids or [empty], dtype=np.int32))
                if type_ids:
                    types.append(np.array(window.type_ids or [0], dtype=np.int32))
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in ids])]).astype(np.int64)
    inputs = {"input_ids": Ragged(np.concatenate(ids), offsets, pad)}
    if type_ids:
        inputs["token_type_ids"] = Ragged(np.concatenate(types), offsets, tokenizer.pad_token_type_id)
    return Windows(inputs, np.repeat(np.arange(len(texts)), windows_of), windows_of)
