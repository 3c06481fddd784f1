"""From an uploaded file to canonical records and a report."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from app.catalog.generation import WrittenText
from app.catalog.plan import PreparationPlan
from app.catalog.task_spec import Variant
from app.datasets.canonical import Writing, write_records
from app.datasets.detection import Detected, detect, wrong_task
from app.datasets.errors import UnreadableFileError, data_error
from app.datasets.form import Form, Sample, find_form, is_read_as_texts
from app.datasets.formats import READERS
from app.datasets.formats.conll import ConllColumns
from app.datasets.formats.csv import DelimitedText
from app.datasets.layouts import LAYOUTS
from app.datasets.layouts.layout import Layout
from app.datasets.lengths import TokenCounter, load_tokenizer
from app.datasets.limits import Deadline, apply_limits, memory_error
from app.datasets.mapping import keep_columns, keep_domain
from app.datasets.problems import Problem, Problems, listed
from app.datasets.report import Report, TargetReport, TokenReport
from app.datasets.source import Source, open_source
from app.datasets.survey import survey
from app.datasets.tagging import unify_tags

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
    layout: str | None
    told: dict[str, str]
    tag_scheme: str | None
    unused_columns: list[str]
    extras: list[str]


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
        warnings.add(_over_window(tokens, variant))
    if tokens is not None and tokens["targets"] is not None and tokens["targets"]["share_over_max"]:
        warnings.add(_over_target_length(tokens["targets"]))
    return {
        "task": task.name,
        "options": plan.options | reading.told | task.with_variant(variant),
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
        "extras": reading.extras,
        "layout": reading.layout,
        "tag_scheme": reading.tag_scheme,
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
    detected = detect(source, plan.task)
    if detected.warning is not None:
        warnings.add(detected.warning)
    sample = _sampler(source, detected)
    with contextlib.closing(READERS[detected.format](source, problems)) as file:
        problems.unit = file.unit
        if not file.columns and problems.total:
            return None
        layout = _layout(plan, detected, file.columns, sample, problems)
        if problems.total and layout is not None:
            return None
        laid_out = layout.open(file, plan.columns, plan.options, sample, problems, warnings) if layout else None
        reader = laid_out or file
        task = layout.task if layout else plan.task or detected.task
        asked = {} if layout else plan.columns
        form = find_form(task, plan.options, asked, reader.columns, sample, problems, plan.fitting_tasks)
        if form is None:
            return None
        if form.others:
            warnings.add(_in_doubt(form))
        log(f"Reading {plan.filename} as {detected.format} of {form.task.name}")
        fields = form.variant.fields
        kept = keep_columns(plan.extras, file.columns, problems)
        if len(kept) < len(plan.extras):
            return None
        kept |= keep_domain(plan.extras, file.columns)
        extras = [column.column for column in kept.values()]
        written = (*fields, *kept)
        mapped = form.mapped | {field.name: column for field, column in kept.items()}
        writing = Writing(written, mapped, plan.limits, source.deadline, problems, warnings, log)
        rows = write_records(reader, records, writing)
        if rows == 0 and not problems.total:
            raise UnreadableFileError(Problem("no_records", "the file has no records", "add records to it"))
        scheme = None
        tags = next((field for field in fields if field.type == "tags"), None)
        if tags is not None and not problems.total:
            line_of = _word_line if isinstance(file, ConllColumns) else _record_line
            scheme = unify_tags(records, tags, line_of, problems, source.deadline)
        used = set(laid_out.source_columns) if laid_out else {by.column for by in mapped.values()}
        used |= set(extras)
        unused = [column for column in file.columns if column not in used]
        if "" in unused:
            warnings.add(
                Problem(
                    "unnamed_column",
                    "a column has no name in the header and is not used",
                    "name it, or write the file without row numbers (pandas: `to_csv(index=False)`)",
                    line=1,
                )
            )
        delimiter = file.delimiter if isinstance(file, DelimitedText) else None
        name = layout.name if layout else None
        told = laid_out.told if laid_out else {}
        return _Reading(detected, delimiter, file.blank_lines, rows, form, name, told, scheme, unused, extras)


def _record_line(row: int, word: int) -> int:
    return row


def _word_line(row: int, word: int) -> int:
    return row + word


def _layout(
    plan: PreparationPlan, detected: Detected, columns: Sequence[str], sample: Sample, problems: Problems
) -> Layout | None:
    """The shape that the records have, where it is not one column a field; one of another task is a problem."""
    for layout in LAYOUTS:
        told = layout.task in (plan.task, detected.task)
        if not told and is_read_as_texts(plan.task, plan.columns, columns):
            continue  # whatever stands beside the texts
        if layout.recognise(columns, plan.columns, sample, told):
            if plan.task not in (None, layout.task):
                problems.add(wrong_task(f"the records are written as {layout.name}", layout.task, plan.task))
            return layout
    return None


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
    form, counter = reading.form, TokenCounter(records, reading.rows, tokenizer, deadline)
    read = [field for field in form.variant.fields if field.is_read]
    tokens = counter.read(read, plan.model, plan.max_length)
    if form.variant.target is not None and issubclass(form.task.options, WrittenText):
        tokens["targets"] = counter.written(form.variant.target, plan.max_length)
    return tokens, None


def _in_doubt(form: Form) -> Problem:
    """A file that fits several tasks, and no model to tell which is meant."""
    return Problem(
        "task_in_doubt",
        f"the file was read as {form.task.name} data; it fits {listed(form.others)} as well",
        "nothing is to be done: a job's model settles it, or its `task`",
        param="task",
    )


def _over_window(tokens: TokenReport, variant: Variant) -> Problem:
    return Problem(
        "over_window",
        f"{tokens['share_over_window'] or 0:.1%} of the texts are longer than {tokens['max_length']} tokens, "
        f"the window of {tokens['model']}",
        variant.when_too_long,
    )


def _over_target_length(targets: TargetReport) -> Problem:
    return Problem(
        "over_target_length",
        f"{targets['share_over_max']:.1%} of the texts to be written are longer than {targets['max_target_length']} "
        "tokens, which is max_target_length where a job leaves it out",
        "their ends are not learned: give the job's task a higher max_target_length (the longest has "
        f"{targets['lengths']['max']} tokens, 99 % have {targets['lengths']['p99']} or fewer)",
    )
