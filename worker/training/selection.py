"""Which records of the training file are trained on, and which are held out or left out as copies."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from app.catalog.preprocessing import Preprocessing, Split
from app.catalog.records import extra
from app.catalog.task_spec import Variant
from worker.protocol import Log
from worker.training.data import Records
from worker.training.failures import UserError
from worker.training.leakage import LISTED, normalised
from worker.training.partition import TRAIN, partition

HELD_OUT = ("validation", "test")
REMOVED = "removed"


def select(
    asked: Preprocessing, splits: Mapping[str, Records], variant: Variant
) -> tuple[dict[str, Records], str | None, list[Log]]:
    """The splits after `asked.split` and `asked.deduplicate`, where each row of the training file went, and events.

    The second is CSV, or None where neither was asked for.
    """
    whole, selected, logs = splits[TRAIN], dict(splits), list[Log]()
    parts = [TRAIN] * whole.table.num_rows
    if asked.split is not None:
        parts = _split(asked.split, whole, variant)
        selected |= {name: _taken(name, whole, parts) for name in (TRAIN, *HELD_OUT) if name in parts}
        logs.append(_tell_split(asked.split, parts))
    if asked.deduplicate is not None:
        train = selected[TRAIN]
        copies = _copies(selected, variant, across=asked.deduplicate == "across_splits")
        if len(copies) == train.table.num_rows:
            raise UserError(
                "no_training_records",
                "deduplicate would remove every training record, as all of them stand in validation or test too. Give "
                'other records to train on, or ask for "deduplicate": "training".',
                "preprocessing.deduplicate",
            )
        logs.append(_tell_copies(train, copies))
        numbers = [number for number, part in enumerate(parts) if part == TRAIN]
        for number in copies:
            parts[numbers[number]] = REMOVED
        selected[TRAIN] = _taken(TRAIN, whole, parts)
    decided = asked.split is not None or asked.deduplicate is not None
    return selected, _as_csv(whole, parts) if decided else None, logs


def _taken(name: str, whole: Records, parts: Sequence[str]) -> Records:
    """The records of `whole` that are of the part `name`, in their order."""
    numbers = [number for number, part in enumerate(parts) if part == name]
    file = whole.file.model_copy(update={"rows": len(numbers)})
    return Records(name, file, whole.table.take(pa.array(numbers, pa.int64())))


def _as_csv(whole: Records, parts: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", "part"])
    writer.writerows(zip(whole.column("row"), parts, strict=True))
    return text.getvalue()


def _texts(records: Records, variant: Variant) -> list[str]:
    """All that a model reads of each record, without case, width and white space."""
    columns = [records.column(field.name) for field in variant.fields if field.is_read]
    return ["\n".join(map(_normalised, values)) for values in zip(*columns, strict=True)]


def _normalised(value: Any) -> str:
    return normalised(" ".join(map(str, value)) if isinstance(value, list) else value or "")


def _targets(records: Records, variant: Variant) -> list[str]:
    target = variant.target
    return [""] * records.table.num_rows if target is None else list(map(str, records.column(target.name)))


def _labels(records: Records, variant: Variant) -> list[list[str]]:
    """The labels of every record: types of entities for tags, none for numbers and texts."""
    target = variant.target
    values: list[Any] = [] if target is None else records.column(target.name)
    match target.type if target else None:
        case "label":
            return [[value] for value in values]
        case "labels":
            return values
        case "tags":
            return [sorted({tag[2:] for tag in tags if tag != "O"}) for tags in values]
        case _:
            return [[] for _ in range(records.table.num_rows)]


def _split(split: Split, records: Records, variant: Variant) -> list[str]:
    shares = {name: share for name in HELD_OUT if (share := getattr(split, name)) > 0}
    groups = _texts(records, variant) if split.group is None else _groups(split.group, records)
    labels = _labels(records, variant) if split.stratify else [[] for _ in groups]
    assert split.seed is not None
    parts = partition(groups, labels, shares, split.seed)
    if empty := [name for name in (TRAIN, *shares) if name not in parts]:
        different = f"{len(set(groups))} different {'texts' if split.group is None else f'values of {split.group!r}'}"
        wanted = ", ".join(f"{name} {share:g}" for name, share in shares.items())
        raise UserError(
            "split_leaves_part_empty",
            f"The split leaves no record for {' and '.join(empty)}: the training file {records.file.filename!r} has "
            f"{len(parts)} records with {different}, and the shares are {wanted}. Ask for larger shares, add records, "
            "or give files for validation and test.",
            "preprocessing.split",
        )
    return parts


def _groups(column: str, records: Records) -> list[str]:
    values = records.column(extra(column).name)
    missing = [row for value, row in zip(values, records.column("row"), strict=True) if value is None]
    if missing:
        raise UserError(
            "group_missing",
            f"{len(missing)} records of the training file {records.file.filename!r} have no value in the column "
            f"{column!r}, which the split groups by: rows {_listed(missing)}. Fill it in, or leave the group out.",
            "preprocessing.split.group",
            {"rows": missing[:LISTED], "line": missing[0]},
        )
    return values


def _copies(splits: Mapping[str, Records], variant: Variant, *, across: bool) -> dict[int, str]:
    """The numbers of training records that are copies, and the split that has the record they are copies of.

    Equal texts with different targets are no copies of one another: which target is right, nobody knows.
    """
    elsewhere: dict[str, str] = {}
    if across:
        for name in HELD_OUT:
            if name in splits:
                elsewhere |= dict.fromkeys(_texts(splits[name], variant), name)
    train = splits[TRAIN]
    seen: set[tuple[str, str]] = set()
    copies: dict[int, str] = {}
    for number, record in enumerate(zip(_texts(train, variant), _targets(train, variant), strict=True)):
        if record[0] in elsewhere:
            copies[number] = elsewhere[record[0]]
        elif record in seen:
            copies[number] = TRAIN
        seen.add(record)
    return copies


def _tell_split(split: Split, parts: Sequence[str]) -> Log:
    rows = {name: count for name in (TRAIN, *HELD_OUT) if (count := parts.count(name))}
    by = f", whole groups by {split.group!r}" if split.group else ""
    counts = ", ".join(f"{count} {name}" for name, count in rows.items())
    return Log(
        f"The training file was split with seed {split.seed}{by}: {counts} records. The model's split.csv says where "
        "each row went.",
        data={"code": "split", "seed": split.seed, "rows": rows},
    )


def _tell_copies(train: Records, copies: Mapping[int, str]) -> Log:
    total, positions = train.table.num_rows, train.column("row")
    found = list(copies.values())
    removed = {name: count for name in (TRAIN, *HELD_OUT) if (count := found.count(name))}
    rows = [positions[number] for number in copies]
    message = f"None of {total} training records is a copy."
    if copies:
        of = ", ".join(f"{count} of a {name} record" for name, count in removed.items())
        message = f"{len(copies)} of {total} training records were removed as copies, {of}: rows {_listed(rows)}."
    return Log(message, data={"code": "deduplicated", "removed": removed, "rows": rows[:LISTED]})


def _listed(rows: Sequence[int]) -> str:
    return ", ".join(map(str, rows[:LISTED])) + (f" and {len(rows) - LISTED} more" if len(rows) > LISTED else "")
