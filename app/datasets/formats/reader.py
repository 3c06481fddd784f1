"""What every format offers: the columns of a file and, batch by batch, the records in it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from app.datasets.problems import Unit

# Bounds of a batch: the second keeps long records from adding up.
BATCH_RECORDS = 1024
BATCH_CHARACTERS = 1 << 20

Record = TypeVar("Record")


@dataclass(frozen=True)
class Batch:
    """Positions of some records (line or record number, from 1) and, column by column, their values.

    A value that a record does not have is `values.MISSING`.
    """

    positions: list[int]
    columns: list[list[Any]]


class RecordReader(Protocol):
    """A file opened as records. Problems with single records go to the collector it was made with."""

    @property
    def unit(self) -> Unit:
        """What positions count."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in their order."""
        ...

    @property
    def blank_lines(self) -> int:
        """Lines without anything, as far as the file was read."""
        ...

    def batches(self, wanted: Sequence[str]) -> Iterator[Batch]:
        """The columns `wanted`, in their order, of all records, once. Raises UnreadableFileError where it must end."""
        ...

    def close(self) -> None:
        """Let go of open files."""
        ...


def in_batches(records: Iterable[tuple[int, int, Record]]) -> Iterator[tuple[list[int], list[Record]]]:
    """Group records, given with their position and size in characters."""
    positions: list[int] = []
    batch: list[Record] = []
    characters = 0
    for position, size, record in records:
        positions.append(position)
        batch.append(record)
        characters += size
        if len(batch) == BATCH_RECORDS or characters > BATCH_CHARACTERS:
            yield positions, batch
            positions, batch, characters = [], [], 0
    if batch:
        yield positions, batch
