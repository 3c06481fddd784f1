"""JSON as tables: what methods and stages say of themselves, whatever it is."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from worker.pages.frame import heading, paragraph, shown, table

MOST_ROWS = 50
LONGEST = 400  # characters of a text
LEVEL = 4  # of headings


def facts(found: Mapping[str, Any]) -> str:
    """Single values in one table, lists of objects in one each, objects under headings."""
    single = [(_title(name), _cell(value)) for name, value in found.items() if not _is_nested(value)]
    parts = [table(["", "value"], single, texts=2)] if single else []
    for name, value in found.items():
        if not _is_nested(value):
            continue
        parts.append(heading(_title(name), LEVEL))
        parts.append(facts(value) if isinstance(value, Mapping) else _rows(value))
    return "\n".join(parts)


def _rows(found: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in found for name in row))
    rows = [[_cell(row.get(name)) for name in names] for row in found[:MOST_ROWS]]
    more = paragraph(f"{len(found) - MOST_ROWS:,} more are in the JSON.", quiet=True) if len(found) > MOST_ROWS else ""
    return table([_title(name) for name in names], rows, texts=len(names)) + more


def _is_nested(value: object) -> bool:
    if isinstance(value, Mapping):
        return bool(cast("Mapping[str, Any]", value))
    return (
        isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in cast("list[Any]", value))
    )


def _cell(value: Any) -> str:
    if isinstance(value, list | tuple):
        text = ", ".join(_cell(item) for item in cast("Sequence[Any]", value))
    elif isinstance(value, Mapping):
        pairs = cast("Mapping[str, Any]", value).items()
        text = ", ".join(f"{name}: {_cell(item)}" for name, item in pairs)
    else:
        text = ("yes" if value else "no") if isinstance(value, bool) else shown(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _title(name: str) -> str:
    return name.replace("_", " ")
