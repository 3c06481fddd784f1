"""Whether the methods of a job helped: its model against the control, on the same rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.catalog.measures import Measure
from app.catalog.methods import DEFAULT_METHOD
from app.catalog.task_spec import Variant
from app.comparison.paired import Difference, Discordance, System, differences, discordance
from worker.pages.frame import between, shown
from worker.training.outcomes import Outcomes

SIGNIFICANT = 0.05  # p-values up to this are called a difference

Named = TypeVar("Named", Difference, Measure)
Found = Literal["helped", "no_measurable_difference", "hurt", "not_measured"]


@dataclass(frozen=True)
class Control:
    """The model of the same budget that was trained without some methods, judged on the same rows.

    `statistics` are the columns [rows, columns] of its outcomes, which mean what those of the job's model do.
    """

    without: tuple[str, ...]
    statistics: NDArray[np.float64]
    metrics: Mapping[str, Any]

    def system(self, outcomes: Outcomes) -> System:
        """It as what `outcomes` of the job's model are compared with."""
        return System(self.statistics, outcomes.meaning)


@dataclass(frozen=True)
class Verdict:
    """What came of it, in one word and in one sentence.

    `measured` are the paired tests of all measures, a the control and b the model; `metric` is the one that the verdict
    goes by. Positive differences of a measure that is better when lower are worse.
    """

    outcome: Found
    negative_transfer: bool
    sentence: str
    methods: tuple[str, ...]
    split: str | None = None
    rows: int | None = None
    metric: str | None = None
    measured: tuple[Difference, ...] = ()
    mcnemar: Discordance | None = None

    @property
    def decisive(self) -> Difference | None:
        """The test that the verdict goes by."""
        return next((found for found in self.measured if found.name == self.metric), None)


def judge(
    adaptation: Mapping[str, Any],
    variant: Variant,
    split: str | None,
    outcomes: Outcomes | None,
    control: Control | None,
    seed: int,
) -> Verdict:
    """The verdict on a job's methods; a sentence says why there is none, and how to get one."""
    asked = tuple(name for name in adaptation if name != DEFAULT_METHOD)
    if not asked:
        return _unknown((), "The job names no method of adaptation, so that there is nothing to compare.")
    if split is None or outcomes is None or not outcomes.rows:
        return _unknown(
            asked,
            f"Whether {_listed(asked)} helped was not measured: the job has neither a validation nor a test file.",
        )
    if control is None:
        return _unknown(
            asked,
            f"Whether {_listed(asked)} helped was not measured: there was no control. With `control: true` in a "
            "method's options a second model is trained with the same budget and without the method.",
        )
    names = _listed(control.without)
    ours, theirs = System(outcomes.matrix, outcomes.meaning), control.system(outcomes)
    measured = tuple(differences(theirs, ours, seed))
    found = of_measure(measured, variant)
    outcome = outcome_of(found)
    return Verdict(
        outcome,
        negative_transfer=outcome == "hurt",
        sentence=_sentence(names, outcome, found, split, len(outcomes.rows)),
        methods=control.without,
        split=split,
        rows=len(outcomes.rows),
        metric=found.name,
        measured=measured,
        mcnemar=discordance(theirs, ours),
    )


def of_measure(measures: Sequence[Named], variant: Variant) -> Named:
    """The measure that decides: the one that models are selected by, else the first headline that rows tell."""
    wanted = (variant.selection_metric, *variant.headline)
    found = {measure.name: measure for measure in measures}
    return next((found[name] for name in wanted if name in found), measures[0])


def outcome_of(found: Difference) -> Found:
    """What a paired test says of the second system against the first."""
    if found.p_value > SIGNIFICANT or found.difference == 0:
        return "no_measurable_difference"
    return "helped" if (found.difference > 0) != found.lower_is_better else "hurt"


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several tests, adjusted so that the chance of any false finding is that of one test (Holm 1979)."""
    count, adjusted, highest = len(p_values), [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(count), key=lambda place: p_values[place])):
        highest = max(highest, min(1.0, (count - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def difference_on(rows: NDArray[np.int64], ours: Outcomes, control: Control, variant: Variant, seed: int) -> Difference:
    """The deciding measure of both on some rows alone."""
    measure = of_measure(ours.measures, variant)
    meaning = ours.meaning.model_copy(update={"measures": (measure,)})
    (found,) = differences(System(control.statistics[rows], meaning), System(ours.matrix[rows], meaning), seed)
    return found


def _unknown(methods: tuple[str, ...], sentence: str) -> Verdict:
    return Verdict("not_measured", negative_transfer=False, sentence=sentence, methods=methods)


def _listed(names: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def _sentence(names: str, outcome: Found, found: Difference, split: str, rows: int) -> str:
    words = {
        "helped": "helped",
        "no_measurable_difference": "made no measurable difference",
        "hurt": "hurt: this is negative transfer, the model would have been better without",
    }
    chance = "p < 0.001" if found.p_value < 0.001 else f"p = {found.p_value:.3f}"
    direction = " (lower is better)" if found.lower_is_better else ""
    return (
        f"{names} {words[outcome]}: {found.name}{direction} is {shown(found.b)} on the {split} file, and "
        f"{shown(found.a)} for the control; the difference is {found.difference:+.4f} (95 % interval "
        f"{between(found.interval)}, {chance} by approximate randomization on {rows:,} rows)."
    )
