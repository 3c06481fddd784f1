"""Errors that the owner of a data file can mend."""

from typing import Any

from app.datasets.problems import Problem, Problems


class DataError(Exception):
    """The file cannot be used. `data` holds `line`, `column`, `field`, `unit`, `total` and `problems`."""

    def __init__(self, code: str, message: str, param: str | None = None, data: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.data: dict[str, Any] = data or {}


class UnreadableFileError(Exception):
    """Reading cannot go on beyond this problem. Only inside this package: `prepare` makes a DataError of it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def data_error(problems: Problems, filename: str) -> DataError:
    """All problems as one error: the sentence is about the first of them."""
    first = problems.first
    data = {
        "line": first.line,
        "column": first.column,
        "field": first.field,
        "unit": problems.unit,
        "total": problems.total,
        "problems": problems.summaries(),
    }
    return DataError(first.code, problems.sentence(filename), first.param, data)
