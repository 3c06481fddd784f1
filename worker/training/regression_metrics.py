"""Metrics of regression: the definitions of scikit-learn and SciPy, with bootstrap intervals."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from worker.training.metrics import resamples_of

Numbers = NDArray[np.float64]


def regression_values(truth: Numbers, predicted: Numbers) -> dict[str, float]:
    """Errors, R², and the correlations of Pearson and Spearman.

    Where the truth is one number throughout, R² and correlations mean nothing and are left out. Predictions that are
    one number throughout order nothing: correlation 0.
    """
    mse = float(mean_squared_error(truth, predicted))
    values = {"mse": mse, "mae": float(mean_absolute_error(truth, predicted)), "rmse": mse**0.5}
    if not _differ(truth):
        return values
    values["r2"] = float(r2_score(truth, predicted))
    if not _differ(predicted):
        return values | {"pearson": 0.0, "spearman": 0.0}
    pearson: Any = pearsonr(truth, predicted)
    spearman: Any = spearmanr(truth, predicted)
    return values | {"pearson": float(pearson.statistic), "spearman": float(spearman.statistic)}


def regression_detail(truth: Numbers, predicted: Numbers, seed: int) -> dict[str, Any]:
    """`rows`, the distributions of `truth` and `predicted`, `intervals` and the `resamples` they come from."""
    return {
        "rows": len(truth),
        "truth": _distribution(truth),
        "predicted": _distribution(predicted),
        "intervals": bootstrap_intervals(truth, predicted, seed),
        "resamples": resamples_of(len(truth)),
    }


def bootstrap_intervals(truth: Numbers, predicted: Numbers, seed: int) -> dict[str, list[float]]:
    """95 % percentile bootstrap intervals (Efron 1979) of the errors and, where numbers differ, R² and correlations.

    Rows are drawn with replacement. Ranks are taken anew in every resample, from counts of the sorted numbers.
    """
    rows = len(truth)
    generator = np.random.default_rng(seed)
    errors = truth - predicted
    squared, absolute = errors**2, np.abs(errors)
    correlated = _differ(truth) and _differ(predicted)
    (_, of_truth), (_, of_predicted) = (np.unique(values, return_inverse=True) for values in (truth, predicted))
    names = ("mse", "mae", "rmse", *(("r2",) if _differ(truth) else ()))
    samples: dict[str, list[float]] = {name: [] for name in (*names, *(("pearson", "spearman") if correlated else ()))}
    for _ in range(resamples_of(rows)):
        drawn = generator.integers(0, rows, rows)
        samples["mse"].append(float(squared[drawn].mean()))
        samples["mae"].append(float(absolute[drawn].mean()))
        samples["rmse"].append(samples["mse"][-1] ** 0.5)
        if "r2" in samples:
            spread = float(truth[drawn].var())
            samples["r2"].append(1 - samples["mse"][-1] / spread if spread > 0 else 0.0)
        if correlated:
            samples["pearson"].append(_correlation(truth[drawn], predicted[drawn]))
            ranks = _ranks(of_truth[drawn]), _ranks(of_predicted[drawn])
            samples["spearman"].append(_correlation(*ranks))
    return {name: [float(bound) for bound in np.percentile(found, [2.5, 97.5])] for name, found in samples.items()}


def _differ(numbers: Numbers) -> bool:
    return bool(numbers.min() < numbers.max())


def _distribution(numbers: Numbers) -> dict[str, float]:
    return {
        "min": float(numbers.min()),
        "max": float(numbers.max()),
        "mean": float(numbers.mean()),
        "standard_deviation": float(numbers.std()),
    }


def _ranks(places: NDArray[np.int64]) -> Numbers:
    """Ranks of the drawn numbers, given their places among all different ones; equal ones share the mean rank."""
    counts = np.bincount(places)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]


def _correlation(one: Numbers, other: Numbers) -> float:
    """Pearson's; 0 where a resample holds one number only."""
    one, other = one - one.mean(), other - other.mean()
    norm = float(np.sqrt((one @ one) * (other @ other)))
    return float(one @ other) / norm if norm > 0 else 0.0
