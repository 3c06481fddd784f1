"""JSON as tables: what methods and stages say of themselves, whatever it is."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from worker.pages.frame import heading, paragraph, shown, table

MOST_ROWS = 50
LONGEST = 400  # characters of a text
LEVEL = 4  # of headings


def facts(found: Mapping[str, Any]) -> str:
    """Values in one table, those of objects by the names of both, and each list of objects in a table of its own."""
    flat = list(_flat(found))
    single = [(name, _cell(value)) for name, value in flat if not _is_rows(value)]
    lists = [(name, value) for name, value in flat if _is_rows(value)]
    values = table(["name", "value"], single, texts=2) if single else ""
    return "\n".join([values, *(heading(name, LEVEL) + _rows(value) for name, value in lists)])


def _flat(found: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in found.items():
        title = name.replace("_", " ")
        if isinstance(value, Mapping) and value:
            yield from ((f"{title}: {rest}", inner) for rest, inner in _flat(cast("Mapping[str, Any]", value)))
        else:
            yield title, value


def _rows(found: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in found for name in row))
    rows = [[_cell(row.get(name)) for name in names] for row in found[:MOST_ROWS]]
    more = paragraph(f"{len(found) - MOST_ROWS:,} more are in the JSON.", quiet=True) if len(found) > MOST_ROWS else ""
    return table([name.replace("_", " ") for name in names], rows, texts=len(names)) + more


def _is_rows(value: object) -> bool:
    items = cast("list[Any]", value) if isinstance(value, list) else []
    return bool(items) and all(isinstance(item, Mapping) for item in items)


def _cell(value: Any) -> str:
    if isinstance(value, list | tuple):
        text = ", ".join(_cell(item) for item in cast("Sequence[Any]", value))
    elif isinstance(value, Mapping):
        pairs = cast("Mapping[str, Any]", value).items()
        text = ", ".join(f"{name}: {_cell(item)}" for name, item in pairs)
    else:
        text = ("yes" if value else "no") if isinstance(value, bool) else shown(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
