"""How each file format becomes a stream of records. A new format is one module and one entry here."""

from collections.abc import Callable

from app.datasets.detection import FormatName
from app.datasets.formats.csv import DelimitedText
from app.datasets.formats.jsonl import JsonLines
from app.datasets.formats.parquet import ParquetTable
from app.datasets.formats.reader import RecordReader
from app.datasets.formats.squad import SquadDocument
from app.datasets.problems import Problems
from app.datasets.source import Source

READERS: dict[FormatName, Callable[[Source, Problems], RecordReader]] = {
    "jsonl": JsonLines,
    "csv": DelimitedText,
    "tsv": DelimitedText,
    "parquet": ParquetTable,
    "squad": SquadDocument,
}
