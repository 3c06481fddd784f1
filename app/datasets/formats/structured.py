"""Formats of single tasks, whose records are no rows of columns: recognised by their own look."""

from collections.abc import Callable
from dataclasses import dataclass

from app.datasets.formats.reader import RecordReader
from app.datasets.problems import Problems
from app.datasets.source import Source


@dataclass(frozen=True)
class StructuredFormat:
    """A format whose reader offers a task's own fields as columns.

    `looks_like` judges the first bytes (without byte-order mark, whole lines only), the extension, and whether the
    client said that the file is of this task: where nobody did, it must be beyond doubt.
    """

    name: str
    task: str
    looks_like: Callable[[bytes, str, bool], bool]
    open: Callable[[Source, Problems], RecordReader]
