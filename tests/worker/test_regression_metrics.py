import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score, root_mean_squared_error

from worker.training.regression_metrics import bootstrap_intervals, regression_detail, regression_values

GENERATOR = np.random.default_rng(11)
TRUTH = np.round(GENERATOR.random(250) * 5, 1)  # with ties
PREDICTED = TRUTH + GENERATOR.normal(0, 0.8, 250)


def test_every_metric_equals_the_librarys_own_function() -> None:
    assert regression_values(TRUTH, PREDICTED) == pytest.approx(
        {
            "mse": mean_squared_error(TRUTH, PREDICTED),
            "mae": mean_absolute_error(TRUTH, PREDICTED),
            "rmse": root_mean_squared_error(TRUTH, PREDICTED),
            "r2": r2_score(TRUTH, PREDICTED),
            "pearson": pearsonr(TRUTH, PREDICTED).statistic,
            "spearman": spearmanr(TRUTH, PREDICTED).statistic,
        },
        abs=1e-9,
    )


def test_errors_equal_values_computed_by_hand() -> None:
    values = regression_values(np.array([1.0, 2.0, 4.0]), np.array([1.0, 4.0, 3.0]))
    assert values["mse"] == pytest.approx(5 / 3)
    assert values["mae"] == 1.0
    assert values["r2"] == pytest.approx(1 - 5 / (14 / 3))
    assert values["spearman"] == pytest.approx(0.5)


def test_what_means_nothing_is_left_out_and_predictions_that_order_nothing_have_no_correlation() -> None:
    numbers, same = np.array([1.0, 2.0, 3.0]), np.ones(3)
    assert set(regression_values(same, numbers)) == {"mse", "mae", "rmse"}
    values = regression_values(numbers, same)
    assert (values["pearson"], values["spearman"]) == (0.0, 0.0)
    assert set(regression_detail(same, numbers, seed=1)["intervals"]) == {"mse", "mae", "rmse"}


def test_bootstrap_intervals_are_those_of_resampled_rows() -> None:
    samples = GENERATOR.integers(0, 250, (500, 250))
    intervals = bootstrap_intervals(TRUTH, PREDICTED, seed=4)
    found = [regression_values(TRUTH[rows], PREDICTED[rows]) for rows in samples]
    assert set(intervals) == set(found[0])
    for name, interval in intervals.items():
        assert interval == pytest.approx(np.percentile([values[name] for values in found], [2.5, 97.5]), abs=0.03)
    assert intervals == bootstrap_intervals(TRUTH, PREDICTED, seed=4)
