"""From a scalar in a file to the canonical value of a record, or to what is wrong with it."""

import math
from decimal import Decimal
from typing import Any

from app.datasets.problems import shown

LONGEST_LABEL = 256
NUMBER_FIX = "give every record a number, or leave the record out"


class Missing:
    """The record has no such field, which is not the same as null."""


MISSING = Missing()


class MarkedLabels(tuple[str, ...]):
    """One or more labels of a record, from a format that writes one label as it writes many."""

    __slots__ = ()


class InvalidValueError(Exception):
    """The value cannot be used; `code`, `message` and `fix` become a problem."""

    def __init__(self, code: str, message: str, fix: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.fix = fix


def text(value: object) -> str:
    """A text, unchanged. Raises InvalidValueError for what is no text or an empty one."""
    if type(value) is not str:
        value = _string(value, "text")
    if not value or value.isspace():
        raise InvalidValueError("empty_text", "the text is empty", "fill it in, or leave the record out")
    check_characters(value)
    return value


def identifier(value: object) -> str:
    """What a record is called: a string as it is, or a whole number in digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    name = _string(value, "id")
    check_characters(name)
    return name


def scalar(value: object) -> str:
    """What a column says of a record, as a string: numbers in digits, booleans in lower case."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | Decimal):
        return str(value)
    if isinstance(value, list | dict):
        raise InvalidValueError(
            f"extra_is_{kind_of(value)}",
            f"expected one value, found a {kind_of(value)}, {shown(value)}",
            "name a column with one string, number or boolean for each record",
        )
    found = _string(value, "extra")
    check_characters(found)
    return found


def note(value: object) -> str | None:
    """As `scalar`, and None for a value that is there and no such one."""
    try:
        return scalar(value)
    except InvalidValueError:
        if value is None or value is MISSING:
            raise
        return None


def label(value: object) -> str:
    """A class label: strings without surrounding space, integers and whole floats in digits, booleans in lower case."""
    if isinstance(value, MarkedLabels):
        value = _only_label(value)
    if type(value) is not str:
        value = _number_label(value) if isinstance(value, int | float | Decimal) else _string(value, "label")
    name = value.strip()
    if not name:
        raise InvalidValueError("empty_label", "the label is empty", "give the record a label, or leave it out")
    if len(name) > LONGEST_LABEL:
        raise InvalidValueError(
            "label_too_long",
            f"a label of {len(name):,} characters, {shown(name)}; at most {LONGEST_LABEL} are allowed",
            "check that text and label are not swapped; map them with `columns`",
        )
    check_characters(name)
    return name


def texts(values: list[Any]) -> list[str] | None:
    """The same for many values at once, much faster; None where one is not fine as it stands."""
    if set(map(type, values)) != {str} or not all(values) or any(map(str.isspace, values)):
        return None
    together = "".join(values)
    if "\0" in together or not (together.isascii() or is_encodable(together)):
        return None
    return values


def labels(values: list[Any]) -> list[str] | None:
    """The same for many values at once, judging each different one once; None where one is wrong or has space."""
    kinds: set[type] = set(map(type, values))
    if len(kinds) != 1 or not kinds <= {str, int, bool, float}:
        return None
    try:
        names = {value: label(value) for value in set(values)}
    except InvalidValueError:
        return None
    if str not in kinds:
        return [names[value] for value in values]
    return values if all(name is value for value, name in names.items()) else None


def number(value: object) -> float:
    """A finite number; text that is one counts, since CSV has nothing else. Raises InvalidValueError for the rest."""
    if isinstance(value, MarkedLabels):
        value = _only_label(value)
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            if not value.strip():
                raise InvalidValueError("empty_number", "the number is empty", NUMBER_FIX) from None
            raise InvalidValueError("number_is_text", f"{shown(value)} is not a number", NUMBER_FIX) from None
    if value is MISSING:
        raise InvalidValueError("missing_field", "the field is missing", "give every record the same fields")
    if value is None:
        raise InvalidValueError("empty_number", "the number is null", NUMBER_FIX)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        kind = kind_of(value)
        raise InvalidValueError(f"number_is_{kind}", f"expected a number, found a {kind}, {shown(value)}", NUMBER_FIX)
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise InvalidValueError("number_not_finite", f"the number is {shown(value)}", NUMBER_FIX)
    return found


def numbers(values: list[Any]) -> list[float] | None:
    """The same for many values at once; None where one is wrong."""
    if set(map(type, values)) <= {float}:
        return values if all(map(math.isfinite, values)) else None
    try:
        return list(map(number, values))
    except InvalidValueError:
        return None


def _string(value: object, kind: str) -> str:
    if isinstance(value, str):
        return value
    if value is MISSING:
        raise InvalidValueError("missing_field", "the field is missing", "give every record the same fields")
    if value is None:
        raise InvalidValueError(f"empty_{kind}", f"the {kind} is null", f"give a {kind}, or leave the record out")
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise InvalidValueError(
                "not_utf8", f"bytes that are not UTF-8, {shown(value)}", "write the column as UTF-8 strings"
            ) from None
    if kind == "label" and isinstance(value, list):
        raise InvalidValueError(
            "label_is_list",
            f"the label is a list, {shown(value)}; each text has exactly one label here",
            "give one label as a string or an integer; for any number of labels give a list in every record",
        )
    raise InvalidValueError(
        f"{kind}_is_{kind_of(value)}",
        f"expected a string, found a {kind_of(value)}, {shown(value)}",
        'write it as a string: "…"' if isinstance(value, int | float) else f"give one string as the {kind}",
    )


def _only_label(labels: MarkedLabels) -> str:
    if len(labels) == 1:
        return labels[0]
    raise InvalidValueError(
        "label_is_list",
        f"{len(labels)} labels, {shown(list(labels))}; each text has exactly one label here",
        'give one label, or ask for any number of them with `problem_type: "multi_label_classification"`',
    )


def _number_label(value: bool | float | Decimal) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        raise InvalidValueError("empty_label", f"the label is {value}", "give the record a label, or leave it out")
    if value != int(value):
        raise InvalidValueError(
            "label_is_fraction",
            f"the label is {value}; a class is a string or a whole number",
            'for classes write them as strings, such as "0.5"; scores need a number in every record and '
            '`problem_type: "regression"`',
        )
    return str(int(value))


def kind_of(value: object) -> str:
    """The name of a value's type in a message."""
    names: dict[type, str] = {
        str: "string",
        bool: "boolean",
        int: "number",
        float: "number",
        Decimal: "number",
        list: "list",
        dict: "object",
    }
    return names.get(type(value), type(value).__name__)


def check_characters(value: str) -> None:
    """Raise InvalidValueError for characters that no text has."""
    if "\0" in value:
        raise InvalidValueError("nul_character", "the value holds U+0000", "remove the NUL character from the value")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidValueError(
            "lone_surrogate",
            f"half of a surrogate pair, {value[error.start]!a}, stands alone at character {error.start + 1}",
            "write the whole character; text cut in the middle of an emoji leaves such halves",
        ) from None


def is_encodable(value: str) -> bool:
    """Whether no half of a surrogate pair stands in it."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
