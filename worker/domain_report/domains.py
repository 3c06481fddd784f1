"""Scores of each domain in the evaluated file, and what the control's were."""

from dataclasses import dataclass, replace

from app.catalog.task_spec import Variant
from app.comparison.paired import Difference
from worker.domain_report.verdict import Control, Found, difference_on, holm, outcome_of
from worker.evaluation.slices import by_value, score_slices
from worker.training.interfaces import Task
from worker.training.trained import Judged


@dataclass(frozen=True)
class DomainScores:
    """One domain: its metrics as evaluations have them, and the paired test against the control, where there is one.

    `outcome` goes by Holm's adjusted p-value, since with many domains one of them will differ by chance.
    """

    slice: str
    rows: int
    metrics: dict[str, float]
    intervals: dict[str, list[float]]
    against_control: Difference | None = None
    adjusted_p_value: float | None = None
    outcome: Found = "not_measured"


@dataclass(frozen=True)
class DomainTable:
    """The largest domains of the evaluated file, and how many smaller ones are left out.

    `headline` are the metrics that a reader wants first.
    """

    split: str
    headline: tuple[str, ...]
    domains: list[DomainScores]
    left_out: int


def score_domains(
    task: Task, variant: Variant, judged: Judged, column: str, control: Control | None, seed: int
) -> DomainTable:
    """Scores by a column that the records have."""
    slicing = by_value(judged.records, column)
    # What is tuned is tuned on the whole validation file: as a test file it is scored as it is.
    whole = replace(judged.records, split="test")
    scored = [
        DomainScores(**found) for found in score_slices(task, whole, judged.examples, judged.predictions, slicing)
    ]
    if control is not None:
        tests = [difference_on(part.rows, judged.outcomes, control, variant, seed) for part in slicing.slices]
        adjusted = holm([test.p_value for test in tests])
        scored = [
            replace(found, against_control=test, adjusted_p_value=p, outcome=outcome_of(replace(test, p_value=p)))
            for found, test, p in zip(scored, tests, adjusted, strict=True)
        ]
    return DomainTable(judged.records.split, variant.headline, scored, slicing.left_out)
