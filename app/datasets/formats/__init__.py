"""How each file format becomes a stream of records. A new format is one module and one entry here.

What is not one column a field but still a row an example (spans, nested objects) is a layout: `app/datasets/layouts`.
"""

from collections.abc import Callable

from app.datasets.formats.conll import CONLL
from app.datasets.formats.csv import DelimitedText
from app.datasets.formats.fasttext import FastText
from app.datasets.formats.json_array import JsonArray
from app.datasets.formats.jsonl import JsonLines
from app.datasets.formats.parquet import ParquetTable
from app.datasets.formats.plain_text import PlainText
from app.datasets.formats.reader import RecordReader
from app.datasets.formats.squad import SquadDocument
from app.datasets.formats.structured import StructuredFormat
from app.datasets.formats.tmx import TMX
from app.datasets.problems import Problems
from app.datasets.source import Source

STRUCTURED: tuple[StructuredFormat, ...] = (TMX, CONLL)
READERS: dict[str, Callable[[Source, Problems], RecordReader]] = {
    "jsonl": JsonLines,
    "json": JsonArray,
    "csv": DelimitedText,
    "tsv": DelimitedText,
    "parquet": ParquetTable,
    "squad": SquadDocument,
    "fasttext": FastText,
    "text": PlainText,
    **{structured.name: structured.open for structured in STRUCTURED},
}
