"""Records that are written in another shape than their task's fields, in whatever format."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from app.datasets.formats.reader import RecordReader
from app.datasets.problems import Problems

Sample = Callable[[Sequence[str]], list[list[Any]]]
Columns = Mapping[str, str]
Options = Mapping[str, Any]


class LaidOut(RecordReader, Protocol):
    """A reader whose columns are a task's fields, made from `source_columns` of the file; it gives others as well."""

    @property
    def source_columns(self) -> tuple[str, ...]:
        """The columns of the file that records are made from."""
        ...

    @property
    def told(self) -> dict[str, str]:
        """Options of the task that records depend on, as they were given or told from the records."""
        ...


@dataclass(frozen=True)
class Layout:
    """A shape of records of one task.

    `recognise` judges the columns of a file, those that the client mapped, the first values, and whether the client
    said that the file is of this task: where nobody did, it must be beyond doubt. `open` turns a reader of the file,
    with the columns and options that the client gave, into one whose columns are the task's fields; what is wrong with
    a record goes to the problems, what was decided for it to the warnings.
    """

    name: str
    task: str
    recognise: Callable[[Sequence[str], Columns, Sample, bool], bool]
    open: Callable[[RecordReader, Columns, Options, Sample, Problems, Problems], LaidOut]
