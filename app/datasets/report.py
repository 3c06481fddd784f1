"""The preparation report: what a data set holds, as the client reads it from `/v1/files/{id}/report`.

Positions are lines for text formats and record numbers for Parquet (`unit`), both from 1.
"""

from typing import Any, Literal, TypedDict

from app.datasets.problems import ProblemSummary, Unit


class FieldReport(TypedDict):
    """Where a field of the records came from."""

    column: str
    found_by: Literal["mapping", "name", "alias"]


class Percentiles(TypedDict):
    """Distribution of a length; percentiles are nearest-rank."""

    min: int
    p5: int
    p50: int
    p95: int
    p99: int
    max: int
    mean: float


class TargetReport(TypedDict):
    """Lengths of the texts that are to be written, in tokens.

    `share_over_max` of them are longer than `max_target_length`, which is the task's option where a job leaves it out.
    """

    max_target_length: int
    lengths: Percentiles
    share_over_max: float


class TokenReport(TypedDict):
    """Lengths in tokens of a model, its special tokens included.

    `share_over_window` of the sampled texts are longer than `max_length` and will be read in several windows, or cut
    off where the task writes texts; only such a task has `targets`.
    """

    model: str | None
    max_length: int | None
    sampled_rows: int
    lengths: Percentiles
    share_over_window: float | None
    targets: TargetReport | None


class DuplicateExample(TypedDict):
    """One text that stands in several records: the first of their positions, and its labels."""

    rows: list[int]
    labels: list[str]


class DuplicateReport(TypedDict):
    """Texts that are equal after NFC, case folding and collapsing white space.

    `texts` occur more than once and fill `rows` records; of `conflicting_texts` not all records have the same label.
    """

    checked_rows: int
    texts: int
    rows: int
    same_label_texts: int
    conflicting_texts: int
    conflicting_rows: int
    examples: list[DuplicateExample]


class NumberReport(TypedDict):
    """The numbers to predict."""

    min: float
    max: float
    mean: float
    standard_deviation: float


class Report(TypedDict):
    """The report of a file that was prepared. `problems` is empty: a file with problems is not prepared.

    `options` are those of the task that the records depend on, the variant that was told from the file among them.
    `labels` counts the records of each class, or the entities of each type. `extras` are columns that were kept beside
    the task's fields. `layout` names a shape of records that is
    not one column a field, such as `spans`; `tag_scheme` the one that tags were written in (records have IOB2).
    """

    task: str
    options: dict[str, Any]
    filename: str
    format: str
    compression: Literal["gzip"] | None
    encoding: str | None
    delimiter: str | None
    bytes: int
    rows: int
    unit: Unit
    blank_lines: int
    fields: dict[str, FieldReport]
    extras: list[str]
    layout: str | None
    tag_scheme: str | None
    unused_columns: list[str]
    labels: dict[str, int] | None
    numbers: NumberReport | None
    characters: Percentiles
    tokens: TokenReport | None
    tokens_reason: str | None
    duplicates: DuplicateReport
    problems: list[ProblemSummary]
    warnings: list[ProblemSummary]
