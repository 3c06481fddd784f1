"""Texts that occur more than once, found by 64-bit hashes: 20 bytes a record, whatever the length of the text."""

import unicodedata
from array import array
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from app.datasets.report import DuplicateReport

# Hashes, labels and rows take 20 bytes a record, and grouping them some 200 at its peak (measured).
BYTES_A_RECORD = 256
EXAMPLES = 5
EXAMPLE_ROWS = 10


def text_hash(text: str) -> int:
    """Hash of a text after NFC, case folding and collapsing white space.

    It is Python's own (SipHash, keyed for each process): compare only within a process. Among 10 million texts the
    chance that any two different ones collide is 3 in a million (n² / 2⁶⁵).
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return hash(" ".join(text.casefold().split()))


class DuplicateFinder:
    """Collects a hash, a label and a position for each record, up to what fits in the memory it is given."""

    def __init__(self, memory_bytes: int) -> None:
        self._most = memory_bytes // BYTES_A_RECORD
        self._hashes = array("q")
        self._labels = array("i")
        self._rows = array("q")
        self._codes: dict[str, int] = {}

    def add(self, texts: Iterable[str], labels: Sequence[str] | None, rows: Iterable[int]) -> None:
        """Take a batch of records; beyond the bound they are left unchecked, and the report says how many were."""
        if len(self._hashes) >= self._most:
            return
        self._hashes.extend(map(text_hash, texts))
        self._rows.extend(rows)
        codes = self._codes
        if labels is not None:
            for label in set(labels).difference(codes):
                codes[label] = len(codes)
            self._labels.extend(map(codes.__getitem__, labels))

    def report(self) -> DuplicateReport:
        """Count the groups of equal texts."""
        labels = self._labels or array("i", bytes(4 * len(self._hashes)))
        table = pa.table(
            {
                "hash": _arrow(self._hashes, pa.int64()),
                "label": _arrow(labels, pa.int32()),
                "row": _arrow(self._rows, pa.int64()),
            }
        )
        counted = pa.Table.from_struct_array(table["hash"].value_counts())
        repeated = counted.filter(pc.field("counts") > 1)["values"].combine_chunks()
        table = table.filter(pc.field("hash").isin(repeated))
        groups = table.group_by("hash", use_threads=False).aggregate(
            [("row", "count"), ("row", "min"), ("label", "count_distinct")]
        )
        conflicting = groups.filter(pc.field("label_count_distinct") > 1)
        examples = conflicting if conflicting.num_rows else groups
        first = examples.sort_by("row_min").slice(0, EXAMPLES)["hash"].to_pylist()
        names = list(self._codes)
        shown = [table.filter(pc.field("hash") == key).slice(0, EXAMPLE_ROWS) for key in first]
        return {
            "checked_rows": len(self._hashes),
            "texts": groups.num_rows,
            "rows": table.num_rows,
            "same_label_texts": groups.num_rows - conflicting.num_rows,
            "conflicting_texts": conflicting.num_rows,
            "conflicting_rows": sum(conflicting["row_count"].to_pylist()),
            "examples": [
                {
                    "rows": group["row"].to_pylist(),
                    "labels": list(dict.fromkeys(names[code] for code in group["label"].to_pylist() if names)),
                }
                for group in shown
            ],
        }


def _arrow(values: "array[int]", kind: pa.DataType) -> pa.Array:
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])
