"""Parquet, read in bounded batches of the columns that are asked for."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from app.datasets.errors import UnreadableFileError
from app.datasets.formats.arrow_columns import (
    compact,
    is_list,
    is_readable,
    is_string,
    lengths_of,
    list_lengths,
    longest,
    values_of,
)
from app.datasets.formats.class_names import class_names, named
from app.datasets.formats.reader import Batch
from app.datasets.problems import Problem, Problems, Unit, listed, shown
from app.datasets.source import BLOCK_BYTES, Source

MAGIC = b"PAR1"
ENCRYPTED_MAGIC = b"PARE"
BATCH_ROWS = 8192
BATCH_BYTES = 8 << 20
DICTIONARY_BYTES = 4 << 20
# What Arrow raises for bytes that are no Parquet; ValueError comes from names that are not UTF-8.
DAMAGE = (pa.ArrowException, OSError, ValueError)
WRITE_AGAIN = "write the file again, for example with pandas' `to_parquet`, and upload it again"


class ParquetTable:
    """Records of a Parquet file; positions are record numbers."""

    unit: Unit = "row"
    blank_lines = 0

    def __init__(self, source: Source, problems: Problems) -> None:
        self._source = source
        self._problems = problems
        self._unpacked: Path | None = None
        path = source.path
        if source.compression is not None:
            path = self._unpacked = self._unpack()
        try:
            self._check_ends(path)
            self._file = self._open(path)
        except BaseException:
            self.close_unpacked()
            raise
        self._schema: pa.Schema = self._file.schema_arrow
        self._class_names = class_names(self._schema)
        names: list[str] = self._schema.names
        for name in dict.fromkeys(name for name in names if names.count(name) > 1):
            problems.add(
                Problem(
                    "duplicate_column",
                    f"the schema names the column {shown(name)} twice",
                    "give each column a name of its own",
                )
            )
        self.columns = () if problems.total else tuple(names)

    def batches(self, wanted: Sequence[str]) -> Iterator[Batch]:
        """See RecordReader."""
        for column in wanted:
            self._check_type(column)
        batch_rows = self._check_size(wanted)
        number = 0
        try:
            for batch in self._file.iter_batches(batch_rows, columns=list(wanted), use_threads=False):
                self._source.deadline.check()
                for columns in _parts([batch.column(column) for column in wanted]):
                    positions = list(range(number + 1, number + 1 + len(columns[0])))
                    number += len(positions)
                    fit = self._fitting(columns, positions)
                    if fit is not None:
                        columns = [column.filter(fit) for column in columns]
                        positions = pa.array(positions).filter(fit).to_pylist()
                    yield Batch(positions, [self._named(*pair) for pair in zip(wanted, columns, strict=True)])
        except MemoryError:
            raise
        except DAMAGE as error:
            raise _damaged(str(error)) from None

    def _named(self, name: str, column: pa.Array) -> list[Any]:
        values, names = values_of(column), self._class_names.get(name)
        return values if names is None else [named(value, names) for value in values]

    def close(self) -> None:
        """See RecordReader."""
        self._file.close()
        self.close_unpacked()

    def close_unpacked(self) -> None:
        """Remove the decompressed copy, where there is one."""
        if self._unpacked is not None:
            self._unpacked.unlink(missing_ok=True)

    def _unpack(self) -> Path:
        """Parquet is read from its end, so a compressed one is decompressed to a file first."""
        path = self._source.path.with_name(self._source.path.name + ".unpacked")
        try:
            with self._source.open() as packed, path.open("wb") as unpacked:
                while block := packed.read(BLOCK_BYTES):
                    unpacked.write(block)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path

    def _check_ends(self, path: Path) -> None:
        with path.open("rb") as file:
            beginning = file.read(4)
            file.seek(max(0, path.stat().st_size - 4))
            end = file.read(4)
        if ENCRYPTED_MAGIC in (beginning, end):
            raise _encrypted()
        if end != MAGIC:
            raise UnreadableFileError(
                Problem(
                    "truncated_parquet",
                    f"the file begins as Parquet and does not end as Parquet (its last bytes are {end!r}): "
                    "it is cut off",
                    f"upload it again; if it is so at your side too, {WRITE_AGAIN}",
                )
            )

    def _open(self, path: Path) -> pq.ParquetFile:
        """Columns whose chunks are small stay dictionary-encoded: a run of one long value is then held once.

        Larger chunks are decoded, since Arrow would make one dictionary of all their values and hand it out again with
        every batch (measured: 5.1 s against 0.3 s for a million short texts). Memory is bounded by RLIMIT_DATA anyhow.
        """
        try:
            with pq.ParquetFile(path) as file:
                metadata, schema = file.metadata, file.schema_arrow
            sizes = _chunk_sizes(metadata)
            small = [
                field.name
                for field in schema
                if is_string(field.type) and max(sizes.get(field.name, [0])) <= DICTIONARY_BYTES
            ]
            return pq.ParquetFile(
                path, metadata=metadata, read_dictionary=small, buffer_size=BLOCK_BYTES, pre_buffer=False
            )
        except MemoryError:
            raise
        except DAMAGE as error:
            if "encrypt" in str(error).lower() or "decrypt" in str(error).lower():
                raise _encrypted() from None
            raise _damaged(str(error)) from None

    def _check_type(self, column: str) -> None:
        kind = self._schema.field(column).type
        if not is_readable(kind):
            raise UnreadableFileError(
                Problem(
                    "wrong_column_type",
                    f"the column {shown(column)} has the type {shown(str(kind))}; text is a string, "
                    "a label a string, an integer or a boolean, words and tags are lists of strings",
                    "write the column as strings or lists of strings, or map another one with `columns`",
                    field=column,
                    param="columns",
                )
            )

    def _check_size(self, wanted: Sequence[str]) -> int:
        """Rows a batch may have. Raises for a declared size beyond the limit, before anything is decompressed."""
        metadata = self._file.metadata
        sizes = _chunk_sizes(metadata)
        size = max(metadata.num_rows, sum(sum(sizes.get(column, [])) for column in wanted))
        limit = self._source.limits.max_decompressed_bytes
        if size > limit:
            raise UnreadableFileError(
                Problem(
                    "decompression_bomb",
                    f"the columns {listed(tuple(wanted))} decompress to {size:,} bytes in {metadata.num_rows:,} rows, "
                    f"more than {limit:,}, the limit TAILOR_MAX_DECOMPRESSED_BYTES "
                    f"({size / max(1, self._source.path.stat().st_size):,.0f} times the size of the file)",
                    "upload less at once, or raise the setting if the file is meant to be this large",
                )
            )
        return max(1, min(BATCH_ROWS, BATCH_BYTES * metadata.num_rows // max(1, size)))

    def _fitting(self, columns: list[pa.Array], positions: list[int]) -> pa.Array | None:
        """Which rows of a batch have no value beyond the limit, None if all; each other one is reported."""
        limit = self._source.limits.max_row_bytes
        too_long: set[int] = set()
        for column in columns:
            lengths = lengths_of(column) if not is_list(column.type) else list_lengths(column, limit)
            if lengths is None or longest(lengths) <= limit:
                continue
            bytes_and_positions = zip(lengths.to_pylist(), positions, strict=True)
            too_long.update(position for length, position in bytes_and_positions if (length or 0) > limit)
        for position in sorted(too_long):
            self._problems.add(
                Problem(
                    "row_too_long",
                    f"a value is longer than {limit:,} bytes, the limit TAILOR_MAX_ROW_BYTES",
                    "split the text over several records, or raise the setting",
                    line=position,
                )
            )
        return pa.array([position not in too_long for position in positions]) if too_long else None


def _chunk_sizes(metadata: pq.FileMetaData) -> dict[str, list[int]]:
    """Declared uncompressed bytes of the chunks of each column, leaf by leaf and row group by row group."""
    names = set(metadata.schema.to_arrow_schema().names)
    sizes: dict[str, list[int]] = {}
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        for position in range(group.num_columns):
            chunk = group.column(position)
            sizes.setdefault(_column_of(chunk.path_in_schema, names), []).append(chunk.total_uncompressed_size)
    return sizes


def _column_of(path: str, names: set[str]) -> str:
    """The column that a leaf such as `tokens.list.element` is part of; names may have dots as well."""
    parts = path.split(".")
    return next((name for end in range(len(parts), 0, -1) if (name := ".".join(parts[:end])) in names), path)


def _parts(columns: list[pa.Array]) -> Iterator[list[pa.Array]]:
    """A batch in parts of at most BATCH_BYTES as Python strings, however little its dictionary takes."""
    lengths = [lengths_of(compact(column)) for column in columns]
    most = max((longest(found) for found in lengths if found is not None), default=0)
    step = max(1, BATCH_BYTES // max(1, most))
    for start in range(0, len(columns[0]), step):
        yield [compact(column.slice(start, step)) for column in columns]


def _damaged(error: str) -> UnreadableFileError:
    reason = " ".join(error.split())[:200]
    return UnreadableFileError(Problem("corrupt_parquet", f"the Parquet data is damaged ({reason})", WRITE_AGAIN))


def _encrypted() -> UnreadableFileError:
    return UnreadableFileError(Problem("encrypted_parquet", "the Parquet file is encrypted", "write it unencrypted"))
