"""Canonical records as Parquet: the one form in which trainers see data."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from app.catalog.plan import PreparationLimits
from app.catalog.records import RecordField
from app.datasets import agreement
from app.datasets.errors import UnreadableFileError
from app.datasets.field_types import canonical
from app.datasets.formats.reader import Batch, RecordReader
from app.datasets.limits import Deadline
from app.datasets.mapping import FieldColumn
from app.datasets.problems import Problem, Problems, shown
from app.datasets.values import InvalidValueError

ROW_GROUP_ROWS = 65_536
ROW_GROUP_CHARACTERS = 16 << 20
READ_ROWS = 8192
READ_BYTES = 1 << 20
MOST_LABELS = 10_000
LOG_INTERVAL_S = 5.0
ROW = "row"


def schema_of(fields: tuple[RecordField, ...]) -> pa.Schema:
    """Every field in its type, and `row`, the record's position in the file."""
    return pa.schema([*((field.name, canonical(field).arrow) for field in fields), (ROW, pa.int64())])


class CanonicalWriter:
    """Collects records and writes them in row groups of bounded size."""

    def __init__(self, path: Path, fields: tuple[RecordField, ...], limits: PreparationLimits) -> None:
        self.rows = 0
        self._schema = schema_of(fields)
        self._limit = limits.max_decompressed_bytes
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._kinds = [canonical(field) for field in fields]
        self._columns: list[list[Any]] = [[] for _ in fields]
        self._positions: list[int] = []
        self._pending = 0
        self._characters = 0

    def add(self, positions: list[int], columns: list[list[Any]]) -> bool:
        """Take some records; True when a row group was written."""
        self._positions.extend(positions)
        for kept, kind, values in zip(self._columns, self._kinds, columns, strict=True):
            kept.extend(values)
            self._pending += kind.characters(values)
        if len(self._positions) < ROW_GROUP_ROWS and self._pending < ROW_GROUP_CHARACTERS:
            return False
        self.flush()
        return True

    def flush(self) -> None:
        """Write what was collected. Raises UnreadableFileError beyond the limit: a small file may say much."""
        self._characters += self._pending
        if self._characters > self._limit:
            raise UnreadableFileError(
                Problem(
                    "decompression_bomb",
                    f"its records hold more than {self._limit:,} characters, the limit TAILOR_MAX_DECOMPRESSED_BYTES",
                    "upload less at once, or raise the setting if the file is meant to be this large",
                    line=self._positions[-1],
                )
            )
        if self._positions:
            arrays = [
                *(pa.array(column, kind.arrow) for column, kind in zip(self._columns, self._kinds, strict=True)),
                pa.array(self._positions, pa.int64()),
            ]
            self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema), len(self._positions))
        self.rows += len(self._positions)
        self._columns = [[] for _ in self._columns]
        self._positions = []
        self._pending = 0

    def close(self) -> None:
        """End the file."""
        self._writer.close()


@dataclass(frozen=True)
class Writing:
    """How records are to be written, and who is told what. An optional field may have no column."""

    fields: tuple[RecordField, ...]
    mapped: Mapping[str, FieldColumn]
    limits: PreparationLimits
    deadline: Deadline
    problems: Problems
    warnings: Problems
    log: Callable[[str], None]

    @property
    def present(self) -> tuple[RecordField, ...]:
        """The fields that have a column."""
        return tuple(field for field in self.fields if field.name in self.mapped)


def write_records(reader: RecordReader, path: Path, to: Writing) -> int:
    """Write every record of `reader` to `path` and return their number; after a first problem only look for more."""
    present = to.present
    kinds = [canonical(field) for field in present]
    labels = _LabelBound(to)
    logged = time.monotonic()
    writer = CanonicalWriter(path, to.fields, to.limits)
    try:
        for batch in reader.batches([to.mapped[field.name].column for field in present]):
            many = [kind.many(values) for kind, values in zip(kinds, batch.columns, strict=True)]
            known = {field.name: column for field, column in zip(present, many, strict=True) if column is not None}
            positions = batch.positions
            if len(known) < len(present) or not agreement.all_agree(present, known):
                positions, known = _one_by_one(batch, to)
            labels.check(positions, known)
            if to.problems.total:
                continue
            columns = [known.get(field.name) or [None] * len(positions) for field in to.fields]
            if writer.add(positions, columns) and time.monotonic() - logged > LOG_INTERVAL_S:
                to.deadline.check()
                to.log(f"Read {writer.rows:,} records")
                logged = time.monotonic()
        if not to.problems.total:
            writer.flush()
    finally:
        writer.close()
    return writer.rows


def _one_by_one(batch: Batch, to: Writing) -> tuple[list[int], dict[str, list[Any]]]:
    """The records of a batch that have no problem; the others are reported, each field that is wrong."""
    positions: list[int] = []
    records: list[dict[str, Any]] = []
    for position, values in zip(batch.positions, zip(*batch.columns, strict=True), strict=True):
        record = _judge(position, values, to)
        if record is not None:
            positions.append(position)
            records.append(record)
    return positions, {field.name: [record[field.name] for record in records] for field in to.present}


def _judge(position: int, values: tuple[Any, ...], to: Writing) -> dict[str, Any] | None:
    record: dict[str, Any] = {}
    present = to.present
    for field, value in zip(present, values, strict=True):
        try:
            record[field.name] = canonical(field).one(value)
        except InvalidValueError as error:
            to.problems.add(_invalid(to.mapped[field.name].column, error, position))
            continue
        if field.type == "label" and type(value) is str and record[field.name] is not value:
            to.warnings.add(_stripped_label(to.mapped[field.name].column, value, position))
    for field in present:
        if field.of is not None and {field.name, field.of} <= record.keys():
            try:
                agreement.check(field, record[field.name], record[field.of])
            except InvalidValueError as error:
                to.problems.add(_invalid(to.mapped[field.name].column, error, position))
                return None
    return record if len(record) == len(present) else None


def _invalid(column: str, error: InvalidValueError, position: int) -> Problem:
    return Problem(error.code, f"{shown(column)}: {error.message}", error.fix, line=position, field=column)


class _LabelBound:
    """Reports the record with which the labels become too many, once."""

    def __init__(self, to: Writing) -> None:
        self._to = to
        self._field = next((field for field in to.present if field.type in ("label", "labels", "tags")), None)
        self._labels: set[str] = set()

    def check(self, positions: list[int], columns: Mapping[str, list[Any]]) -> None:
        if self._field is None:
            return
        values = columns[self._field.name]
        self._labels.update(values if self._field.type == "label" else chain.from_iterable(values))
        if len(self._labels) > MOST_LABELS:
            self._to.problems.add(_too_many_labels(self._to.mapped[self._field.name].column, positions[-1]))
            self._field = None


def read_records(path: Path, columns: list[str]) -> Iterator[list[list[object]]]:
    """Columns of prepared records, batch by batch.

    Without `buffer_size` Arrow keeps the bytes of every row group it has read: 499 against 291 MiB at 512 MiB of JSONL.
    """
    with pq.ParquetFile(path, buffer_size=READ_BYTES, pre_buffer=False) as file:
        for batch in file.iter_batches(READ_ROWS, columns=columns, use_threads=False):
            yield [batch.column(column).to_pylist() for column in columns]


def _too_many_labels(column: str, position: int) -> Problem:
    return Problem(
        "too_many_labels",
        f"the column {shown(column)} has more than {MOST_LABELS:,} different labels",
        "check that it is the label: numbers to be predicted need a regression task, and ids or texts are no labels; "
        "map another column with `columns`",
        line=position,
        field=column,
        param="columns",
    )


def _stripped_label(column: str, value: str, position: int) -> Problem:
    return Problem(
        "label_whitespace",
        f"the label {shown(value)} was read without the space around it",
        "remove the space from the labels",
        line=position,
        field=column,
    )
