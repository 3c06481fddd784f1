"""From an uploaded file to canonical records and a report."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from app.catalog.plan import PreparationPlan
from app.datasets.canonical import Writing, write_records
from app.datasets.detection import Detected, detect
from app.datasets.errors import UnreadableFileError, data_error
from app.datasets.form import Form, Sample, find_form
from app.datasets.formats import READERS
from app.datasets.formats.csv import DelimitedText
from app.datasets.lengths import load_tokenizer, token_lengths
from app.datasets.limits import Deadline, apply_limits, memory_error
from app.datasets.problems import Problem, Problems
from app.datasets.report import Report, TokenReport
from app.datasets.source import Source, open_source
from app.datasets.survey import survey

RECORDS = "prepared/records.parquet"


@dataclass(frozen=True)
class Prepared:
    """`records_path` is relative to the run directory; `report` is a `report.Report`."""

    records_path: str
    report: dict[str, Any]


def prepare(plan: PreparationPlan, run_dir: Path, log: Callable[[str], None]) -> Prepared:
    """Read `plan.source` as records of `plan.task`, write them to `prepared/records.parquet` and describe them.

    Raises DataError for a file that cannot be used; nothing is left in `prepared/` then. Works within `plan.limits`.
    """
    records = run_dir / RECORDS
    partial = records.with_suffix(".partial")
    records.parent.mkdir(exist_ok=True)
    records.unlink(missing_ok=True)
    try:
        with apply_limits(plan.limits) as deadline:
            report = _prepare(plan, run_dir, partial, deadline, log)
        partial.replace(records)
    except MemoryError:
        raise memory_error(plan.limits) from None
    finally:
        partial.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it stays where there are records in it
            records.parent.rmdir()
    return Prepared(RECORDS, cast(dict[str, Any], report))


@dataclass(frozen=True)
class _Reading:
    """What reading the file left behind besides the records themselves."""

    detected: Detected
    delimiter: str | None
    blank_lines: int
    rows: int
    form: Form
    unused_columns: list[str]


def _prepare(
    plan: PreparationPlan, run_dir: Path, records: Path, deadline: Deadline, log: Callable[[str], None]
) -> Report:
    source = open_source(run_dir / plan.source, plan.filename, plan.limits, deadline)
    problems, warnings = Problems(), Problems()
    try:
        reading = _read(plan, source, records, problems, warnings, log)
    except UnreadableFileError as error:
        problems.add(error.problem)
        reading = None
    if reading is None or problems.total:
        raise data_error(problems, plan.filename)
    log(f"Read {reading.rows:,} records; looking at them")
    task, variant = reading.form.task, reading.form.variant
    found = survey(records, variant.fields, plan.limits.memory_bytes // 2, deadline, warnings)
    tokens, tokens_reason = _tokens(plan, run_dir, records, reading, deadline)
    if tokens is not None and tokens["share_over_window"]:
        warnings.add(_over_window(tokens))
    return {
        "task": task.name,
        "options": plan.options | task.with_variant(variant),
        "filename": plan.filename,
        "format": reading.detected.format,
        "compression": source.compression,
        "encoding": reading.detected.encoding,
        "delimiter": reading.delimiter,
        "bytes": source.path.stat().st_size,
        "rows": reading.rows,
        "unit": problems.unit,
        "blank_lines": reading.blank_lines,
        "fields": {name: {"column": by.column, "found_by": by.found_by} for name, by in reading.form.mapped.items()},
        "unused_columns": reading.unused_columns,
        "labels": found.labels,
        "numbers": found.numbers,
        "characters": found.characters,
        "tokens": tokens,
        "tokens_reason": tokens_reason,
        "duplicates": found.duplicates,
        "problems": [],
        "warnings": warnings.summaries(),
    }


def _read(
    plan: PreparationPlan,
    source: Source,
    records: Path,
    problems: Problems,
    warnings: Problems,
    log: Callable[[str], None],
) -> _Reading | None:
    """Write the records; None where the columns cannot be told, and `problems` says why."""
    detected = detect(source)
    if detected.warning is not None:
        warnings.add(detected.warning)
    with contextlib.closing(READERS[detected.format](source, problems)) as reader:
        problems.unit = reader.unit
        if not reader.columns and problems.total:
            return None
        sample = _sampler(source, detected)
        form = find_form(plan.task, plan.options, plan.columns, reader.columns, sample, problems)
        if form is None:
            return None
        log(f"Reading {plan.filename} as {detected.format} of {form.task.name}")
        fields = form.variant.fields
        writing = Writing(fields, form.mapped, plan.limits, source.deadline, problems, warnings, log)
        rows = write_records(reader, records, writing)
        used = {by.column for by in form.mapped.values()}
        unused = [column for column in reader.columns if column not in used]
        if rows == 0 and not problems.total:
            raise UnreadableFileError(
                Problem("no_records", "the file has column names and no records", "add records after the header")
            )
        if "" in unused:
            warnings.add(
                Problem(
                    "unnamed_column",
                    "a column has no name in the header and is not used",
                    "name it, or write the file without row numbers (pandas: `to_csv(index=False)`)",
                    line=1,
                )
            )
        delimiter = reader.delimiter if isinstance(reader, DelimitedText) else None
        return _Reading(detected, delimiter, reader.blank_lines, rows, form, unused)


def _sampler(source: Source, detected: Detected) -> Sample:
    """The first values of columns, read from a file opened anew; what is wrong with them is found when all are read."""

    def sample(columns: Sequence[str]) -> list[list[Any]]:
        try:
            with contextlib.closing(READERS[detected.format](source, Problems())) as reader:
                batch = next(reader.batches(columns), None)
        except UnreadableFileError:
            batch = None
        return [[] for _ in columns] if batch is None else batch.columns

    return sample


def _tokens(
    plan: PreparationPlan, run_dir: Path, records: Path, reading: _Reading, deadline: Deadline
) -> tuple[TokenReport | None, str | None]:
    """Lengths in tokens, or the reason why there are none."""
    if plan.tokenizer is None:
        return None, "no model was named for this file" if plan.model is None else f"{plan.model} has no tokenizer.json"
    try:
        tokenizer = load_tokenizer(run_dir / plan.tokenizer)
    except ValueError as error:
        return None, f"the tokenizer of {plan.model} cannot be read: {error}"
    fields = [field for field in reading.form.variant.fields if field.is_read]
    return token_lengths(records, reading.rows, fields, tokenizer, plan.model, plan.max_length, deadline), None


def _over_window(tokens: TokenReport) -> Problem:
    return Problem(
        "over_window",
        f"{tokens['share_over_window'] or 0:.1%} of the texts are longer than {tokens['max_length']} tokens, "
        f"the window of {tokens['model']}",
        "nothing is cut: such texts are read in overlapping windows, which takes longer",
    )
