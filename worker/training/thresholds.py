"""From which probability on a label is given, for each label on its own."""

import numpy as np
from numpy.typing import NDArray

UNTUNED = 0.5
FEWEST_WITH_THE_LABEL = 5  # with fewer texts a threshold follows chance
DIGITS = 6


def tune_thresholds(truth: NDArray[np.bool_], probabilities: NDArray[np.float64]) -> tuple[float, ...]:
    """Thresholds [labels] with the highest F1 of each label (SCut, Yang 2001); of several, the one nearest to a half.

    `truth` and `probabilities` are [texts, labels]. A label that fewer than five texts have keeps a half.
    """
    return tuple(_tune(truth[:, label], probabilities[:, label]) for label in range(truth.shape[1]))


def _tune(truth: NDArray[np.bool_], probabilities: NDArray[np.float64]) -> float:
    positives = int(truth.sum())
    if positives < FEWEST_WITH_THE_LABEL:
        return UNTUNED
    order = np.argsort(-probabilities, kind="stable")
    falling = probabilities[order]
    hits, given = np.cumsum(truth[order]), np.arange(1, len(order) + 1)
    f1 = 2 * hits / (given + positives)
    following = np.append(falling[1:], 0.0)
    middles = np.round((falling + following) / 2, DIGITS)
    possible = falling > following  # equal probabilities are on one side
    best = possible & (f1 == f1[possible].max())
    candidates = middles[best]
    return float(candidates[np.abs(candidates - UNTUNED).argmin()])
