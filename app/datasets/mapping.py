"""Which column of a file feeds which field of a task's records."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from app.catalog.records import DOMAIN, RecordField, extra, note
from app.catalog.task_spec import TaskSpec, Variant
from app.catalog.tasks import TASKS
from app.datasets.formats.plain_text import reading_tasks
from app.datasets.problems import Problem, Problems, listed, shown

# What records of other tasks look like, by the column names of the exports people hold.
SIGNATURES: tuple[tuple[str, tuple[frozenset[str], ...]], ...] = (
    ("text-classification", (frozenset({"text", "label"}),)),
    (
        "token-classification",
        tuple(frozenset({words, tags}) for words in ("tokens", "words") for tags in ("ner_tags", "tags", "labels")),
    ),
    ("question-answering", (frozenset({"context", "question"}), frozenset({"data", "version"}))),
    ("translation", (frozenset({"source", "target"}), frozenset({"translation"}))),
    ("summarization", (frozenset({"document", "summary"}), frozenset({"article", "highlights"}))),
    ("text-generation", (frozenset({"messages"}), frozenset({"prompt", "completion"}))),
)


@dataclass(frozen=True)
class FieldColumn:
    """The column that feeds a field, and how it was found."""

    column: str
    found_by: Literal["mapping", "name", "alias"]


def map_columns(
    task: TaskSpec, variant: Variant, asked: Mapping[str, str], columns: Sequence[str], problems: Problems
) -> dict[str, FieldColumn]:
    """A column for every field of `variant`: the one asked for, else of its name, else of the only alias there is.

    Names are compared without case and surrounding space. An optional field may have none. What else cannot be mapped
    is added to `problems`.
    """
    names = [field.name for field in variant.fields]
    for name in asked:
        if name not in names:
            problems.add(_unknown_field(task, name, names))
    mapped: dict[str, FieldColumn] = {}
    missing: list[RecordField] = []
    # A column goes to what asks for it, then to what needs one, then to what may have one.
    for field in sorted(variant.fields, key=lambda field: (field.name not in asked, field.optional)):
        taken = {found.column for found in mapped.values()}
        if field.name in asked:
            found = _asked(field, asked[field.name], columns, taken, problems)
        else:
            found = _guess(field, [column for column in columns if column not in taken], problems)
            if found is None and not field.optional:
                missing.append(field)
        if isinstance(found, FieldColumn):
            mapped[field.name] = found
    if missing:
        _report_missing(task, variant, missing, mapped, columns, problems)
    return mapped


def keep_columns(extras: Sequence[str], columns: Sequence[str], problems: Problems) -> dict[RecordField, FieldColumn]:
    """A field for every column that is to be kept beside the task's own; one that is not there is a problem."""
    for column in extras:
        if column not in columns:
            near = _close(column, columns)
            problems.add(
                Problem(
                    "missing_column",
                    f"no column {shown(column)} to group or slice records by; the file has {listed(columns)}",
                    f"name {shown(near)}" if near else "name one of them",
                    field=column,
                    param="columns",
                )
            )
    return {extra(column): FieldColumn(column, "mapping") for column in extras if column in columns}


def keep_domain(extras: Sequence[str], columns: Sequence[str]) -> dict[RecordField, FieldColumn]:
    """The domain of each record, by which reports tell domains apart; nobody has to ask for it."""
    kept = DOMAIN in columns and DOMAIN not in extras
    return {note(DOMAIN): FieldColumn(DOMAIN, "name")} if kept else {}


def can_map(variant: Variant, asked: Mapping[str, str], columns: Sequence[str]) -> bool:
    """Whether every field that `variant` needs has its column, and every field that was asked for exists."""
    folded = {column.strip().casefold() for column in columns}
    return all(
        asked[field.name] in columns if field.name in asked else not folded.isdisjoint((field.name, *field.aliases))
        for field in variant.required
    ) and set(asked) <= {field.name for field in variant.fields}


def _asked(
    field: RecordField, column: str, columns: Sequence[str], taken: set[str], problems: Problems
) -> FieldColumn | None:
    if column in taken:
        problems.add(
            Problem(
                "column_used_twice",
                f"`columns` maps {shown(field.name)} to {shown(column)}, which already feeds another field",
                f"map each field to a column of its own; the columns are {listed(columns)}",
                field=field.name,
                param="columns",
            )
        )
    elif column in columns:
        return FieldColumn(column, "mapping")
    else:
        problems.add(
            Problem(
                "missing_column",
                f"`columns` maps {shown(field.name)} to {shown(column)}, and the file has no such column; "
                f"it has {listed(columns)}",
                f"pass `columns`, for example {_example({field.name: _close(column, columns) or '<column>'})}",
                field=field.name,
                param="columns",
            )
        )
    return None


def _guess(field: RecordField, columns: list[str], problems: Problems) -> FieldColumn | Literal["ambiguous"] | None:
    """The column of the field's name or of one alias. Several candidates are a problem, not a choice."""
    if field.name in columns:
        return FieldColumn(field.name, "name")
    for names, found_by in (((field.name,), "name"), (field.aliases, "alias")):
        candidates = [column for column in columns if column.strip().casefold() in names]
        if len(candidates) == 1:
            return FieldColumn(candidates[0], "name" if found_by == "name" else "alias")
        if candidates:
            problems.add(
                Problem(
                    "ambiguous_column",
                    f"the field {shown(field.name)} may be any of the columns {listed(candidates)}",
                    f"pass `columns`, for example {_example({field.name: candidates[0]})}",
                    field=field.name,
                    param="columns",
                )
            )
            return "ambiguous"
    return None


def _report_missing(
    task: TaskSpec,
    variant: Variant,
    missing: list[RecordField],
    mapped: Mapping[str, FieldColumn],
    columns: Sequence[str],
    problems: Problems,
) -> None:
    other = _looks_like(task, columns)
    if other is not None and other != task.name:
        problems.add(
            Problem(
                "wrong_task",
                f"the columns {listed(columns)} look like {other} data, and the file was read for {task.name}, which "
                f"needs {listed([field.name for field in variant.required])}",
                f"upload it for the task {other}, or pass `columns` if it is {task.name} data after all"
                if other in TASKS
                else f"pass `columns` if it is {task.name} data after all; Tailor's tasks are {listed(tuple(TASKS))}",
                param="columns",
            )
        )
        return
    left = [column for column in columns if column not in {found.column for found in mapped.values()}]
    for field in missing:
        near = _close(field.name, left) or (left[0] if left else "<column>")
        example = {name: found.column for name, found in mapped.items()} | {field.name: near}
        order = {field.name: example[field.name] for field in variant.fields if field.name in example}
        hint = "; the first line must name the columns" if _no_header(columns) else _forms(task)
        if {column.strip().casefold() for column in columns} == {"text"}:
            hint = f"; texts alone are data of {' or '.join(reading_tasks())}"
        problems.add(
            Problem(
                "missing_column",
                f"no column for the field {shown(field.name)}; the file has {listed(columns)}{hint}",
                f"name the column {shown(field.name)}, or pass `columns`, for example {_example(order)}",
                field=field.name,
                param="columns",
            )
        )


def _forms(task: TaskSpec) -> str:
    """What records of a task may hold, where that is more than one thing."""
    forms = list(dict.fromkeys(listed([field.name for field in variant.required]) for variant in task.variants))
    return f"; {task.name} data has {'; or '.join(forms)}" if len(forms) > 1 else ""


def _no_header(columns: Sequence[str]) -> bool:
    """Whether the names look like data: long, or a number."""
    return any(len(column) > 40 or column.strip().isdigit() for column in columns)


def _unknown_field(task: TaskSpec, name: str, names: list[str]) -> Problem:
    return Problem(
        "unknown_field",
        f"`columns` maps {shown(name)}, and records of {task.name} have no such field; they have {listed(names)}",
        f"write {shown(_close(name, names) or names[0])} instead",
        field=name,
        param="columns",
    )


def _looks_like(task: TaskSpec, columns: Sequence[str]) -> str | None:
    """The task whose exports have such columns; else the one whose fields take the most of them."""
    names = {column.strip().casefold() for column in columns}
    known = next((name for name, signs in SIGNATURES if any(sign <= names for sign in signs)), None)
    if known is not None:
        return known
    fitting = [
        (len(variant.required), spec.name)
        for spec in TASKS.values()
        if spec is not task
        for variant in spec.variants
        if can_map(variant, {}, columns)
    ]
    fields, name = max(fitting, default=(0, ""))
    return name if fields > 1 else None  # one column alone is no sign of anything


def _close(name: str, names: Sequence[str]) -> str | None:
    folded = {candidate.casefold(): candidate for candidate in names}
    near = difflib.get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.6)
    return folded[near[0]] if near else None


def _example(columns: Mapping[str, str]) -> str:
    return "{" + ", ".join(f'"{field}": "{column}"' for field, column in columns.items()) + "}"
