"""What the records of a file are: records of which task, in which variant, from which columns."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.catalog.records import FieldType
from app.catalog.task_spec import TaskSpec, Variant
from app.catalog.tasks import DEFAULT_TASK, TASKS
from app.datasets.mapping import FieldColumn, can_map, map_columns
from app.datasets.problems import Problem, Problems, listed
from app.datasets.sequences import as_list
from app.datasets.values import MISSING, MarkedLabels

# Gives the first values of columns.
Sample = Callable[[Sequence[str]], list[list[Any]]]


@dataclass(frozen=True)
class Form:
    """Task, variant and columns of a file's records; `others` are tasks that they fit as well."""

    task: TaskSpec
    variant: Variant
    mapped: dict[str, FieldColumn]
    others: tuple[str, ...] = ()


def find_form(
    task: str | None,
    options: Mapping[str, Any],
    asked: Mapping[str, str],
    columns: Sequence[str],
    sample: Sample,
    problems: Problems,
    fitting_tasks: Sequence[str] | None = None,
) -> Form | None:
    """The form of the records. None where it cannot be told; `problems` then says why.

    `sample` gives the first values of some columns: where a task or its variant is not named, names of columns and
    types of values must leave no doubt. Among tasks that fit, the one that needs the most columns is meant: a text with
    a label is no mere text. What is still in doubt is settled by `fitting_tasks`, those of the model; where there is no
    model yet (None) and the records are the same for all tasks, the first stands for them until there is one. Where
    no task fits, values are broken, and the names of the columns alone may tell whose they are.
    """
    specs = [TASKS[task]] if task is not None else list(TASKS.values())
    fitting = [
        (spec, found)
        for spec in specs
        if (found := _fitting(spec, options, asked, columns, sample, told=task is not None)) is not None
    ]
    most = max((len(variant.required) for _, variant in fitting), default=0)
    best = [(spec, variant) for spec, variant in fitting if len(variant.required) == most]
    best = [pair for pair in best if pair[0].name in (fitting_tasks or ())] or best
    same = all(variant.fields == best[0][1].fields for _, variant in best)
    if len(best) > 1 and not (same and fitting_tasks is None):
        names = [spec.name for spec, _ in best]
        problems.add(
            Problem(
                "task_in_doubt",
                f"the columns {listed(columns)} fit several tasks: {listed(names)}",
                f"say which with `task`, for example {names[0]!r}",
                param="task",
            )
        )
        return None
    if not best and task is None:
        best = _by_names(specs, options, asked, columns)
    # Where nothing fits, the messages are about the variant that was asked for, or the usual one.
    spec = best[0][0] if best else specs[0] if task is not None else TASKS[DEFAULT_TASK]
    variant = best[0][1] if best else spec.variant(options)
    mapped = map_columns(spec, variant, asked, columns, problems)
    if any(field.name not in mapped for field in variant.required):
        return None
    return Form(spec, variant, mapped, tuple(other.name for other, _ in best[1:]))


def _fitting(
    spec: TaskSpec,
    options: Mapping[str, Any],
    asked: Mapping[str, str],
    columns: Sequence[str],
    sample: Sample,
    *,
    told: bool,
) -> Variant | None:
    """The first variant whose columns are there and whose values are of its types.

    Where the client told the task and there is no choice of variants, values are not looked at: what is wrong with them
    is better said record by record.
    """
    candidates = spec.candidates(options)
    for variant in candidates:
        if not can_map(variant, asked, columns):
            continue
        if not told and not asked and len(columns) > 1 and [field.type for field in variant.required] == ["text"]:
            continue  # a text beside other columns is no mere text
        if told and len(candidates) == 1:
            return variant
        mapped = map_columns(spec, variant, asked, columns, Problems())
        fields = [field for field in variant.required if field.name in mapped]
        values = sample([mapped[field.name].column for field in fields])
        if all(is_evidently(field.type, column) for field, column in zip(fields, values, strict=True)):
            return variant
    return None


def is_read_as_texts(task: str | None, asked: Mapping[str, str], columns: Sequence[str]) -> bool:
    """Whether a file is read for a task whose records are texts and nothing else, and has them in a column."""
    return task is not None and any(
        [field.type for field in variant.required] == ["text"] and can_map(variant, asked, columns)
        for variant in TASKS[task].variants
    )


def _by_names(
    specs: Sequence[TaskSpec], options: Mapping[str, Any], asked: Mapping[str, str], columns: Sequence[str]
) -> list[tuple[TaskSpec, Variant]]:
    """The task that needs the most of the columns, whatever their values; none where several do."""
    named = [
        (spec, variant)
        for spec in specs
        if (variant := next((each for each in spec.candidates(options) if can_map(each, asked, columns)), None))
    ]
    most = max((len(variant.required) for _, variant in named), default=0)
    best = [(spec, variant) for spec, variant in named if len(variant.required) == most]
    return best if len(best) == 1 else []


def is_evidently(kind: FieldType, values: Sequence[Any]) -> bool:
    """Whether values in a file are of a type beyond doubt; without any value, each type is as good."""
    known = [value for value in values if value is not MISSING and value is not None and value != ""]
    if not known:
        return True
    if all(isinstance(value, MarkedLabels) and len(value) == 1 for value in known):
        known = [label for value in known for label in value]
    lists = all(as_list(value) is not None for value in known)
    match kind:
        case "labels" | "words" | "tags":
            return lists
        case "number":
            return _are_fractions(known)
        case "label":
            return not lists and not _are_fractions(known)
        case "messages":
            return all(isinstance(item, dict) for value in known for item in as_list(value) or [value])
        case _:
            return True


def _are_fractions(values: Sequence[Any]) -> bool:
    """Whether all are numbers and some are fractions. Whole numbers may as well be the names of classes."""
    numbers: list[float] = []
    for value in values:
        if isinstance(value, bool):
            return False
        try:
            numbers.append(float(value))
        except (TypeError, ValueError, OverflowError):
            return False
    return any(math.isfinite(number) and number % 1 for number in numbers)
