"""Checks that goals with labels share."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from app.catalog.unknown_labels import unknown_labels
from worker.tasks.text_classification.goal import LISTED, listed
from worker.training.data import Records
from worker.training.failures import UserError


def refuse_unseen(split: str, records: Records, labels_of: Iterable[Sequence[str]], seen: Sequence[str]) -> None:
    """Raise UserError where a split has a label that training never shows; `labels_of` are those of each record."""
    known = set(seen)
    first_row: dict[str, int] = {}
    for labels, row in zip(labels_of, records.column("row"), strict=True):
        for label in labels:
            if label not in known:
                first_row.setdefault(label, row)
    if not first_row:
        return
    shown = ", ".join(f"{label!r} (row {row})" for label, row in list(first_row.items())[:LISTED])
    more = f" and {len(first_row) - LISTED} more" if len(first_row) > LISTED else ""
    raise UserError(
        "unseen_labels",
        f"The {split} file {records.file.filename!r} has labels that the training file never shows: {shown}{more}. "
        f"Labels of the training file: {listed(seen, LISTED * 2)}. "
        "Add training rows for them, or correct or remove those rows.",
        f"{split}_file",
        {"labels": first_row, "allowed": list(seen), "line": next(iter(first_row.values()))},
    )


def refuse_unknown(records: Records, labels: Iterable[str], model: str, known: Sequence[str]) -> None:
    """Raise UserError where a file to evaluate on has labels that the model does not know; `labels` are all of it."""
    found = unknown_labels(records.file.filename, Counter(labels), model, known)
    if found is not None:
        raise UserError(found.code, found.message, "file", found.data)


def weight_of_each(asked: Mapping[str, float], labels: Sequence[str]) -> list[float]:
    """The weights of `asked` in the order of `labels`. Raises UserError where it is not one for each."""
    missing, unknown = sorted(set(labels) - set(asked)), sorted(set(asked) - set(labels))
    if missing or unknown:
        parts = [f"names labels the data do not have: {unknown[:LISTED]}"] if unknown else []
        parts += [f"leaves out labels the data have: {missing[:LISTED]}"] if missing else []
        raise UserError(
            "class_weights_mismatch",
            f"class_weights {' and '.join(parts)}. Give one weight for each of {list(labels)}, or 'balanced'.",
            "hyperparameters.class_weights",
            {"allowed": list(labels)},
        )
    return [asked[label] for label in labels]
