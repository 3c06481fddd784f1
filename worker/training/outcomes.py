"""What an evaluation tells of every row, and what needs no model at all: for result files, comparisons, calibration."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.catalog.measures import Measure, Statistics

BINS = 15  # as Guo et al. 2017
PROBABILITIES = 20  # labels whose probabilities a result row spells out; of more, only those that matter


@dataclass(frozen=True)
class Calibration:
    """Whether answers given with a probability p are right with that frequency.

    `ece` is the expected calibration error (Naeini et al. 2015): the mean over answers of the distance between the mean
    probability and the share of right answers of their bin. `bins` are of equal width; `of` says what is counted.
    """

    ece: float
    of: str
    bins: list[dict[str, float]]


@dataclass(frozen=True)
class Baseline:
    """An answer that needs no model, and its scores by the same metrics."""

    name: str
    description: str
    values: dict[str, float]


@dataclass(frozen=True)
class Outcomes:
    """Every record's outcome, in the order of the records.

    `rows` hold `target`, `prediction` and, where there is one, `confidence`, as JSON has them. `statistics` are columns
    [records] that `measures` are computed from; see app/catalog/measures.py for `classes`, `gold` and `right`.
    """

    rows: list[dict[str, Any]]
    statistics: Mapping[str, NDArray[Any]]
    measures: tuple[Measure, ...]
    classes: tuple[str, ...] = ()
    gold: tuple[str, ...] = ()
    right: str | None = None
    calibration: Calibration | None = None

    @property
    def meaning(self) -> Statistics:
        """What the columns of `matrix` are."""
        return Statistics(
            columns=tuple(self.statistics),
            measures=self.measures,
            classes=self.classes,
            gold=self.gold,
            right=self.right,
        )

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Statistics as [records, columns]."""
        return np.column_stack([np.asarray(column, dtype=np.float64) for column in self.statistics.values()])

    @property
    def calibration_detail(self) -> dict[str, Any]:
        """The calibration for the metrics; empty where there is none."""
        return {} if self.calibration is None else {"calibration": asdict(self.calibration)}


def calibrate(probabilities: NDArray[np.float64], right: NDArray[np.bool_], of: str) -> Calibration | None:
    """Calibration of answers with these probabilities; None without any answer."""
    total = len(probabilities)
    if total == 0:
        return None
    places = np.clip(np.ceil(probabilities * BINS).astype(np.int64) - 1, 0, BINS - 1)
    counts = np.bincount(places, minlength=BINS)
    filled = np.maximum(counts, 1)
    confidence = np.bincount(places, probabilities, BINS) / filled
    accuracy = np.bincount(places, right, BINS) / filled
    error = float((counts * np.abs(accuracy - confidence)).sum() / total)
    bins = [
        {
            "from": index / BINS,
            "to": (index + 1) / BINS,
            "count": int(counts[index]),
            "confidence": float(confidence[index]),
            "accuracy": float(accuracy[index]),
        }
        for index in range(BINS)
        if counts[index]
    ]
    return Calibration(error, of, bins)
