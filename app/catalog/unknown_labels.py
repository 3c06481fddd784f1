"""A file to evaluate on that has labels which the model was never taught."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LISTED = 10  # labels that a message names before it says "and N more"
IN_DATA = 1000


@dataclass(frozen=True)
class UnknownLabels:
    """What is told of them."""

    code: str
    message: str
    data: dict[str, Any]


def unknown_labels(
    filename: str, counts: Mapping[str, int], model: str, known: Sequence[str], noun: str = "labels"
) -> UnknownLabels | None:
    """None where the model knows every label of the file; `counts` says how often each occurs."""
    unknown = {label: count for label, count in counts.items() if label not in set(known)}
    if not unknown:
        return None
    shown = ", ".join(f"{label!r} ({count:,})" for label, count in list(unknown.items())[:LISTED])
    more = f" and {len(unknown) - LISTED} more" if len(unknown) > LISTED else ""
    names = ", ".join(map(repr, known[: 2 * LISTED])) + (" …" if len(known) > 2 * LISTED else "")
    return UnknownLabels(
        "unknown_labels",
        f"The file {filename!r} has {noun} that the model {model!r} does not know, so that it can only be wrong about "
        f"them: {shown}{more}. It knows: {names}. Remove or rename these rows, or evaluate a model that was trained "
        "on such labels.",
        {"unknown": dict(list(unknown.items())[:IN_DATA]), "allowed": list(known)[:IN_DATA]},
    )
