"""Metrics from statistics of rows, for many resamples at once."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BLEU_ORDERS = 4
CHRF_BETA = 2

# Forms that are functions of sums over rows: [resamples, columns] and the number of rows to [resamples].
SUMS: dict[str, Callable[[Floats, int], Floats]] = {
    "mean": lambda sums, rows: sums[:, 0] / rows,
    "root_mean": lambda sums, rows: np.sqrt(np.maximum(sums[:, 0], 0) / rows),
    "ratio": lambda sums, rows: divide(sums[:, 0], sums[:, 1]),
    "f1": lambda sums, rows: divide(2 * sums[:, 0], sums[:, 1] + sums[:, 2]),
    "exp_ratio": lambda sums, rows: np.exp(divide(sums[:, 0], sums[:, 1])),
    "bleu": lambda sums, rows: _bleu(sums),
    "chrf": lambda sums, rows: _chrf(sums),
    "pearson": lambda sums, rows: _pearson(sums, rows),
    "r2": lambda sums, rows: _r2(sums, rows),
}


def divide(part: Floats, whole: Floats) -> Floats:
    """The quotient; 0 where it does not exist."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _bleu(sums: Floats) -> Floats:
    """BLEU (Papineni et al. 2002) as sacreBLEU has it: an order without a match counts half, a quarter … of one."""
    system, reference = sums[:, 0], sums[:, 1]
    matches, totals = sums[:, 2 : 2 + BLEU_ORDERS], sums[:, 2 + BLEU_ORDERS :]
    there = np.logical_and.accumulate(totals > 0, axis=1)
    missed = there & (matches == 0)
    counted = np.where(missed, 0.5 ** np.cumsum(missed, axis=1), matches)
    precision = np.where(there, divide(100 * counted, totals), 0.0)
    with np.errstate(divide="ignore"):
        mean = np.exp(np.log(precision).mean(axis=1))
    brevity = np.exp(np.minimum(0.0, 1 - np.divide(reference, system, out=np.ones_like(system), where=system > 0)))
    return np.where((matches.sum(axis=1) > 0) & (system > 0), brevity * mean, 0.0)


def _chrf(sums: Floats) -> Floats:
    """chrF2 (Popović 2015): precision and recall are means over the orders that occur in both texts."""
    system, reference, both = sums[:, 0::3], sums[:, 1::3], sums[:, 2::3]
    there = (system > 0) & (reference > 0)
    orders = there.sum(axis=1).astype(np.float64)
    precision = divide(np.where(there, divide(both, system), 0.0).sum(axis=1), orders)
    recall = divide(np.where(there, divide(both, reference), 0.0).sum(axis=1), orders)
    weight = CHRF_BETA**2
    return 100 * divide((1 + weight) * precision * recall, weight * precision + recall)


def f1_macro(hits: Floats, marks: Floats) -> Floats:
    """Mean F1 over the classes that occur; `hits` are TP, `marks` 2 TP + FP + FN, both [resamples, classes]."""
    return divide(divide(2 * hits, marks).sum(axis=1), (marks > 0).sum(axis=1).astype(np.float64))


def moments(truth: Floats, predicted: Floats) -> Floats:
    """What `pearson` and `r2` sum up: x, y, x², y², xy of centred numbers, [rows, 5]."""
    x, y = truth - truth.mean(), predicted - truth.mean()
    return np.stack([x, y, x * x, y * y, x * y], axis=1)


def _pearson(sums: Floats, rows: int) -> Floats:
    x, y, xx, yy, xy = sums.T
    norm = np.sqrt(np.maximum(xx - x * x / rows, 0) * np.maximum(yy - y * y / rows, 0))
    return np.clip(divide(xy - x * y / rows, norm), -1, 1)


def _r2(sums: Floats, rows: int) -> Floats:
    x, _, xx, yy, xy = sums.T
    spread = xx - x * x / rows
    return np.where(spread > 0, 1 - divide(xx - 2 * xy + yy, spread), 0.0)


def correlation(one: Floats, other: Floats) -> float:
    """Pearson's; 0 where one of the two is the same throughout."""
    one, other = one - one.mean(), other - other.mean()
    norm = float(np.sqrt((one @ one) * (other @ other)))
    return float(one @ other) / norm if norm > 0 else 0.0


def places(numbers: Floats) -> NDArray[np.int64]:
    """Where each number stands among all different ones."""
    return np.unique(numbers, return_inverse=True)[1].reshape(-1)


def ranks(places: NDArray[np.int64]) -> Floats:
    """Ranks of numbers by their places among all different ones, drawn or not; equal ones share their mean rank."""
    counts = np.bincount(places)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]
