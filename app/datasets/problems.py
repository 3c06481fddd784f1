"""What is wrong with a data file: every occurrence is counted, the first ten of each kind are kept."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypedDict

KEPT_OF_A_KIND = 10
SHOWN_CHARACTERS = 60

Unit = Literal["line", "row"]


class Occurrence(TypedDict):
    """Where one problem lies: `line` (or record number, for Parquet), `column` (character in the line), both from 1."""

    line: int | None
    column: int | None
    message: str


class ProblemSummary(TypedDict):
    """All problems of one kind; `line`, `column` and `message` are those of the first."""

    code: str
    field: str | None
    count: int
    line: int | None
    column: int | None
    message: str
    fix: str
    first: list[Occurrence]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, or worth a warning. `field` is the column of the file, `param` the request's field."""

    code: str
    message: str
    fix: str
    line: int | None = None
    column: int | None = None
    field: str | None = None
    param: str | None = None

    @property
    def occurrence(self) -> Occurrence:
        """Where it lies, without the fix that all of its kind share."""
        return {"line": self.line, "column": self.column, "message": self.message}


@dataclass
class _Kind:
    count: int = 0
    first: list[Problem] = field(default_factory=list[Problem])


@dataclass
class Problems:
    """Problems of a file, with memory bounded by the number of kinds."""

    unit: Unit = "line"
    total: int = 0
    _kinds: dict[tuple[str, str | None], _Kind] = field(default_factory=dict[tuple[str, str | None], _Kind])

    def add(self, problem: Problem, count: int = 1) -> None:
        """Count a problem `count` times."""
        kind = self._kinds.setdefault((problem.code, problem.field), _Kind())
        kind.count += count
        self.total += count
        if len(kind.first) < KEPT_OF_A_KIND:
            kind.first.append(problem)

    @property
    def first(self) -> Problem:
        """What to say first: what concerns the whole file, else the earliest line. There must be one."""
        return self._ordered()[0].first[0]

    def _ordered(self) -> list[_Kind]:
        # Values are checked a batch at a time, after the lines they stand in: kinds are not met in the order of lines.
        return sorted(self._kinds.values(), key=lambda kind: kind.first[0].line or 0)

    def summaries(self) -> list[ProblemSummary]:
        """One entry a kind of problem, in the order of their first occurrence."""
        return [
            {
                "code": first.code,
                "field": first.field,
                "count": kind.count,
                "line": first.line,
                "column": first.column,
                "message": first.message,
                "fix": first.fix,
                "first": [problem.occurrence for problem in kind.first],
            }
            for kind in self._ordered()
            for first in kind.first[:1]
        ]

    def sentence(self, filename: str) -> str:
        """`reviews.jsonl line 17: 'label' is missing; 3 more problems. Fix: …`."""
        first = self.first
        place = "" if first.line is None else f" {self.unit} {first.line}"
        if first.line is not None and first.column is not None:
            place += f" column {first.column}"
        more = self.total - 1
        rest = f"; {more:,} more problem{'s' if more > 1 else ''}" if more else ""
        return f"{filename}{place}: {first.message}{rest}. Fix: {first.fix}."


def shown(value: object) -> str:
    """A value from the file as a message shows it: quoted, escaped, and cut to 60 characters."""
    if isinstance(value, str | bytes) and len(value) > SHOWN_CHARACTERS:
        return repr(value[:SHOWN_CHARACTERS]) + "…"
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS + 2 else text[:SHOWN_CHARACTERS] + "…"


def listed(names: Sequence[str], most: int = 20) -> str:
    """Names of columns or labels for a message, at most `most` of them."""
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return (", ".join(shown(name) for name in names[:most]) or "none") + rest
