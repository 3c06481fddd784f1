"""Which format a file has. Its name is believed as far as its first bytes agree."""

import json
import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from app.datasets.encoding import wide_encoding
from app.datasets.errors import UnreadableFileError
from app.datasets.formats import STRUCTURED, plain_text
from app.datasets.formats.fasttext import MARK as FASTTEXT_MARK
from app.datasets.lines import UTF8_BOM
from app.datasets.problems import Problem, shown
from app.datasets.source import GZIP_MAGIC, Source

EXTENSIONS: dict[str, str] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".ft": "fasttext",
    ".fasttext": "fasttext",
}
HEAD_BYTES = 1 << 16
ACCEPTED = (
    "JSONL, JSON, SQuAD's JSON, CSV, TSV, Parquet, TMX, CoNLL columns, fastText (`__label__x text`) or plain text, "
    "plain or gzip-compressed"
)
# A document whose first members are plain values and then `data`, a list of objects: SQuAD, if these have `paragraphs`,
# or if a `version` stands before it.
SQUAD = re.compile(
    rb'\{\s*(?:"version"\s*:\s*"[^"]*"\s*,\s*"data"\s*:\s*\['
    rb'|(?:"\w+"\s*:\s*(?:"(?:[^"\\]|\\.)*"|[\w.+-]+)\s*,\s*)*"data"\s*:\s*\[\s*(?:\]|\{.*?"paragraphs"\s*:\s*\[))',
    re.DOTALL,
)
# First bytes of what people upload instead, and how to get from there to something Tailor reads.
FOREIGN: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook", "unpack it, or save the sheet as CSV (UTF-8)"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel or Word file", "save the sheet as CSV (UTF-8)"),
    (b"\x28\xb5\x2f\xfd", "Zstandard data", "decompress it with `unzstd`, or use gzip"),
    (b"BZh", "bzip2 data", "decompress it with `bunzip2`, or use gzip"),
    (b"\xfd7zXZ\0", "xz data", "decompress it with `unxz`, or use gzip"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it, or use gzip"),
    (GZIP_MAGIC, "gzip data inside gzip data", "decompress it once with `gunzip`"),
    (b"ARROW1\0\0", "an Arrow IPC file", "write it as Parquet: `pyarrow.parquet.write_table`"),
    (b"%PDF-", "a PDF document", "extract records from it first"),
    (b"SQLite format 3\0", "an SQLite database", "export the table as CSV"),
    (b"\x80\x04\x95", "a Python pickle", "write the records as JSONL; pickles are never read"),
)


@dataclass(frozen=True)
class Detected:
    """Format and encoding of a file, and a warning where its name says something else than its content.

    `task` is the one whose records the format is made for.
    """

    format: str
    task: str | None
    encoding: Literal["utf-8", "utf-8-sig"] | None
    warning: Problem | None


def detect(source: Source, task: str | None) -> Detected:
    """The format of `source`, which is data of `task` where that is known.

    Raises UnreadableFileError for what is no data file Tailor reads.
    """
    head = source.head(HEAD_BYTES)
    suffixes = [suffix.lower() for suffix in PurePath(source.filename).suffixes]
    zipped = bool(suffixes) and suffixes[-1] in (".gz", ".gzip")
    extension = suffixes[-1 - zipped] if len(suffixes) > zipped else ""
    named = EXTENSIONS.get(extension)
    whole = len(head) < HEAD_BYTES
    content = _magic(head)
    encoding = "utf-8-sig" if head.startswith(UTF8_BOM) else "utf-8"
    if content is None:
        _refuse_what_is_no_text(source, head, whole=whole)
        text = head.removeprefix(UTF8_BOM)
        lines = text if whole else text[: text.rfind(b"\n") + 1] or text
        structured = _structured(lines, extension, task, encoding)
        if structured is not None:
            return structured
        content = _content(source, text.lstrip()) or (_mostly(lines) if named is None else None)
        if content is None and named is None and _is_plain_text(text.lstrip(), extension, task):
            return Detected(plain_text.NAME, None, encoding, None)
    if named == "parquet" and content != "parquet":
        raise UnreadableFileError(
            Problem(
                "not_parquet",
                f"the file is named {extension} and does not begin with Parquet's mark PAR1 "
                f"(it begins with {shown(head[:16])})",
                "upload the Parquet file itself, or name the file after what it is: .jsonl, .csv or .tsv",
            )
        )
    warning = None
    if zipped and source.compression is None:
        warning = _mismatch(f"the file is named {suffixes[-1]} and is not compressed", "drop the extension")
    if content is not None and named is not None and content != named and extension != ".json":
        warning = _mismatch(
            f"the file is named {extension} and was read as {content}, which is what it holds",
            f"name it .{'json' if content == 'squad' else content}",
        )
    found = content or named or _delimited(head)
    if found == "parquet":
        return Detected(found, None, None, warning)
    return Detected(found, None, encoding, warning)


def _structured(
    lines: bytes, extension: str, task: str | None, encoding: Literal["utf-8", "utf-8-sig"]
) -> Detected | None:
    """A format that one task has for itself."""
    for structured in STRUCTURED:
        if structured.looks_like(lines, extension, task == structured.task):
            if task not in (None, structured.task):
                raise UnreadableFileError(
                    wrong_task(f"the file is written as {structured.name}", structured.task, task)
                )
            return Detected(structured.name, structured.task, encoding, None)
    return None


def _magic(head: bytes) -> str | None:
    """Parquet by its first bytes; raises for what other first bytes give away."""
    if head.startswith((b"PAR1", b"PARE")):
        return "parquet"
    for magic, what, fix in FOREIGN:
        if head.startswith(magic):
            raise UnreadableFileError(Problem("unsupported_format", f"this is {what}; Tailor reads {ACCEPTED}", fix))
    return None


def _refuse_what_is_no_text(source: Source, head: bytes, *, whole: bool) -> None:
    wide = wide_encoding(head)
    if wide is not None:
        raise UnreadableFileError(
            Problem(
                "not_utf8",
                f"the file is {wide} text, not UTF-8",
                f"convert it: {source.command(f'iconv -f {wide} -t UTF-8')}",
                line=1,
                column=1,
            )
        )
    text = head.removeprefix(UTF8_BOM).lstrip()
    if not text and whole:
        raise UnreadableFileError(Problem("empty_file", "the file is empty", f"upload a file with records: {ACCEPTED}"))
    if b"\n" not in text and b"\r" in text.rstrip():
        raise UnreadableFileError(
            Problem(
                "carriage_return_lines",
                "the lines end in carriage returns only, as on old Macintosh systems",
                "convert them: " + source.command(r"tr '\r' '\n'"),
                line=1,
            )
        )


def _content(source: Source, text: bytes) -> str | None:
    """What the text says beyond doubt; None where only the name can tell."""
    if re.match(rb"\[\s*[{\]]", text):
        return "json"
    if SQUAD.match(text):
        return "squad"
    if text.startswith(FASTTEXT_MARK.encode()):
        return "fasttext"
    first = text.split(b"\n", 1)[0].strip()
    if re.match(rb"\[\s*\[", text) or first in (b"{", b"["):
        array = text.startswith(b"[")
        kind = "a JSON array of other things than objects" if array else "JSON objects written over several lines"
        raise UnreadableFileError(
            Problem(
                "json_document",
                f"the file looks like {kind}; JSONL has one object on each line",
                'write objects with named fields: {"text": …, "label": …}'
                if array
                else f"convert it: {source.command('jq -c .', '.jsonl')}",
                line=1,
                column=1,
            )
        )
    return "jsonl" if text.startswith(b"{") and _is_object(text.split(b"\n", 1)[0]) else None


def _mostly(lines: bytes) -> str | None:
    """What most lines of a file are whose name says nothing: its first line may be broken."""
    filled = [line for line in lines.split(b"\n") if line.strip()]
    if 2 * sum(line.startswith(FASTTEXT_MARK.encode()) for line in filled) > len(filled):
        return "fasttext"
    return "jsonl" if 2 * sum(line.startswith(b"{") and _is_object(line) for line in filled) > len(filled) else None


def _is_plain_text(text: bytes, extension: str, task: str | None) -> bool:
    """Whether a file that is nothing else holds texts without fields: by its task, else by its name.

    A text file of another task may hold delimited columns; prose without any delimiter in its first line is an error.
    """
    first = text.split(b"\n", 1)[0]
    if text.startswith((b"{", b"[")) or plain_text.names_columns(first):
        return False
    readers = plain_text.reading_tasks()
    if task is None or task in readers:
        return task is not None or extension in plain_text.EXTENSIONS
    if extension in plain_text.EXTENSIONS and not any(mark in first for mark in b",;\t"):
        raise UnreadableFileError(wrong_task("the file is plain text", " or ".join(readers), task))
    return False


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _delimited(head: bytes) -> str:
    """CSV or TSV for a name that says nothing; JSONL where the first line has neither a comma nor a tab."""
    first = head.split(b"\n", 1)[0]
    if first.lstrip().startswith(b"{"):
        return "jsonl"
    if b"\t" in first:
        return "tsv"
    return "csv" if b"," in first or b";" in first else "jsonl"


def wrong_task(looks: str, other: str, task: str) -> Problem:
    """A file that is data of another task than was said."""
    return Problem(
        "wrong_task",
        f"{looks}, which is {other} data, and it was read for {task}",
        f"upload it for the task {other}, or give a file of {task} data",
        param="task",
    )


def _mismatch(message: str, fix: str) -> Problem:
    return Problem("extension_mismatch", message, fix)
