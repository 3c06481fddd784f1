"""JSON from a client: parsed strictly, bounded in depth, with text that PostgreSQL can hold."""

import json
from collections.abc import Iterator
from typing import Any, NoReturn

from app.errors import AppError

MAX_DEPTH = 32


def parse_json(raw: bytes, what: str = "The body") -> object:
    """The value. Raises AppError 422 for bytes that are not JSON, and 400 for text that cannot be stored."""
    text = _decode(raw, what)
    value = _parse(text, what)
    if _depth(value) > MAX_DEPTH:
        raise _too_deep(what)
    if "\\u0000" in text or "\\ud" in text.lower():
        for path, found in _texts(value, what):
            _check_text(path, found)
    return value


def _check_text(path: str, text: str) -> None:
    if "\0" in text:
        raise AppError(400, "nul_character", f"{path} has a NUL character (\\u0000) in it; remove it.", path)
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise AppError(400, "lone_surrogate", f"{path} has half of a surrogate pair (\\ud800 to \\udfff) in it.", path)


def _decode(raw: bytes, what: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AppError(
            422,
            "not_utf8",
            f"{what} is not UTF-8: byte {raw[error.start]:#04x} at position {error.start}.",
            extra={"position": error.start},
        ) from None


def _parse(text: str, what: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except json.JSONDecodeError as error:
        place = {"line": error.lineno, "column": error.colno}
        message = f"{what} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        raise AppError(422, "malformed_json", message, extra=place) from None
    except RecursionError:
        raise _too_deep(what) from None
    except ValueError as error:  # an integer of thousands of digits
        raise AppError(422, "malformed_json", f"{what} has a number that cannot be read: {error}.") from None


def _too_deep(what: str) -> AppError:
    return AppError(422, "too_deep", f"{what} is nested deeper than {MAX_DEPTH} levels.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        name = next(name for index, (name, _) in enumerate(pairs) if name in dict(pairs[:index]))
        raise AppError(422, "duplicate_field", f"Field {name!r} is given twice in one object; give it once.", name)
    return found


def _constant(name: str) -> NoReturn:
    raise AppError(422, "malformed_json", f"Not JSON: {name} is no JSON value; give a number or null.")


def _depth(value: object) -> int:
    """Levels of nesting, counted level by level; one more than allowed is enough to know."""
    depth, level = 0, [value]
    while level and depth <= MAX_DEPTH:
        depth += 1
        children = (
            item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)
        )
        level = [child for group in children for child in group if isinstance(child, dict | list)]
    return depth


def _texts(value: object, what: str) -> Iterator[tuple[str, str]]:
    """Every string with its path; a field's name is one, too."""
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting:
        path, node = waiting.pop()
        if isinstance(node, str):
            yield path or what, node
        elif isinstance(node, dict):
            for name, child in node.items():
                yield f"A field name in {path or what}", name
                waiting.append((f"{path}.{name}".lstrip("."), child))
        elif isinstance(node, list):
            waiting.extend((f"{path}[{index}]", child) for index, child in enumerate(node))
