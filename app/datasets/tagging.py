"""The tags of prepared records, made IOB2 whatever scheme the file has."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pyarrow as pa
import pyarrow.parquet as pq

from app.catalog.records import RecordField
from app.datasets.canonical import READ_BYTES, READ_ROWS, ROW, read_records
from app.datasets.limits import Deadline
from app.datasets.problems import Problem, Problems, shown
from app.datasets.tag_schemes import Evidence, IllegalTagError, Scheme, to_iob2

KNOWN = "O, B-TYPE, I-TYPE (IOB1, IOB2), with E-TYPE and S-TYPE (IOBES), or L-TYPE and U-TYPE (BILOU)"


def unify_tags(
    records: Path, field: RecordField, line_of: Callable[[int, int], int], problems: Problems, deadline: Deadline
) -> Scheme | None:
    """Rewrite the column of `field` as IOB2 and return the scheme it was in; None where `problems` says why not.

    `line_of` gives the line of a word from its record's and its number in the record.
    """
    assert field.of is not None
    columns = [field.of, field.name, ROW]
    evidence = Evidence()
    for words, tags, rows in read_records(records, columns):
        deadline.check()
        for sentence, sequence, row in zip(words, tags, rows, strict=True):
            try:
                evidence.add(cast(list[str], sequence))
            except IllegalTagError as error:
                fix = f"give every word one of the tags {KNOWN}"
                problems.add(_problem("unknown_tag", error, sentence, sequence, row, line_of, fix, field))
    if problems.total:
        return None
    scheme = evidence.scheme()
    if scheme is None:
        mixed = ", ".join(f"{prefix}-" for prefix in sorted(evidence.prefixes))
        message = f"the tags have prefixes of several schemes: {mixed}"
        problems.add(Problem("mixed_tag_schemes", message, f"write all in one scheme: {KNOWN}", field=field.name))
        return None
    if not evidence.is_iob2:
        _rewrite(records, field, scheme, line_of, problems, deadline)
    return None if problems.total else scheme


def _rewrite(
    records: Path,
    field: RecordField,
    scheme: Scheme,
    line_of: Callable[[int, int], int],
    problems: Problems,
    deadline: Deadline,
) -> None:
    draft = records.with_suffix(".tags")
    try:
        with pq.ParquetFile(records, buffer_size=READ_BYTES, pre_buffer=False) as source:
            schema: pa.Schema = source.schema_arrow
            place = schema.get_field_index(field.name)
            with pq.ParquetWriter(draft, schema, compression="zstd") as target:
                for batch in source.iter_batches(READ_ROWS, use_threads=False):
                    deadline.check()
                    converted = _convert(batch, field, scheme, line_of, problems)
                    if not problems.total:
                        column = pa.array(converted, schema.field(place).type)
                        target.write_batch(batch.set_column(place, field.name, column))
        if not problems.total:
            draft.replace(records)
    finally:
        draft.unlink(missing_ok=True)


def _convert(
    batch: pa.RecordBatch,
    field: RecordField,
    scheme: Scheme,
    line_of: Callable[[int, int], int],
    problems: Problems,
) -> list[list[str]]:
    words, tags, rows = (batch.column(name).to_pylist() for name in (field.of, field.name, ROW))
    converted: list[list[str]] = []
    for sentence, sequence, row in zip(words, tags, rows, strict=True):
        try:
            converted.append(to_iob2(sequence, scheme))
        except IllegalTagError as error:
            fix = f"correct the tags; the file is written in {scheme}"
            problems.add(_problem("illegal_tag_sequence", error, sentence, sequence, row, line_of, fix, field))
    return converted


def _problem(
    code: str,
    error: IllegalTagError,
    words: object,
    tags: object,
    row: object,
    line_of: Callable[[int, int], int],
    fix: str,
    field: RecordField,
) -> Problem:
    word, tag = cast(list[str], words)[error.index], cast(list[str], tags)[error.index]
    message = f"word {error.index + 1}, {shown(word)}: its tag {shown(tag)} {error.message}"
    return Problem(code, message, fix, line=line_of(cast(int, row), error.index), field=field.name)
