import numpy as np
import pytest

from worker.training.metrics import (
    bootstrap_intervals,
    classification_detail,
    classification_values,
    resamples_of,
)

TRUTH = np.array([0, 0, 0, 0, 1, 1, 2, 2])
PREDICTED = np.array([0, 0, 0, 1, 1, 0, 2, 1])


def test_metrics_equal_values_computed_by_hand() -> None:
    # By class: precision 3/4, 1/3, 1; recall 3/4, 1/2, 1/2; F1 3/4, 2/5, 2/3; support 4, 2, 2.
    values = classification_values(TRUTH, PREDICTED)
    assert values == pytest.approx(
        {
            "accuracy": 5 / 8,
            "precision_macro": (3 / 4 + 1 / 3 + 1) / 3,
            "recall_macro": (3 / 4 + 1 / 2 + 1 / 2) / 3,
            "f1_macro": (3 / 4 + 2 / 5 + 2 / 3) / 3,
            "precision_weighted": (4 * 3 / 4 + 2 * 1 / 3 + 2 * 1) / 8,
            "recall_weighted": 5 / 8,
            "f1_weighted": (4 * 3 / 4 + 2 * 2 / 5 + 2 * 2 / 3) / 8,
        }
    )


def test_the_table_of_classes_and_the_confusion_matrix_equal_values_computed_by_hand() -> None:
    detail = classification_detail(TRUTH, PREDICTED, ["a", "b", "c", "never"], seed=1)
    assert detail["confusion_matrix"] == [[3, 1, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert detail["per_class"][1] == pytest.approx(
        {"label": "b", "precision": 1 / 3, "recall": 1 / 2, "f1": 2 / 5, "support": 2}
    )
    assert detail["per_class"][3] == {"label": "never", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}


def test_bootstrap_intervals_are_those_of_resampled_rows() -> None:
    generator = np.random.default_rng(3)
    truth = generator.integers(0, 3, 300)
    predicted = np.where(generator.random(300) < 0.7, truth, generator.integers(0, 3, 300))
    found = [classification_values(truth[rows], predicted[rows]) for rows in generator.integers(0, 300, (150, 300))]
    intervals = classification_detail(truth, predicted, ["a", "b", "c"], seed=4)["intervals"]
    assert set(intervals) == set(found[0])
    for name, interval in intervals.items():
        assert interval == pytest.approx(np.percentile([values[name] for values in found], [2.5, 97.5]), abs=0.025)


def test_bootstrap_intervals_repeat_themselves_with_a_seed_and_close_up_on_perfect_predictions() -> None:
    mixed = np.array([[8, 2], [3, 7]])
    assert bootstrap_intervals(mixed, 1) == bootstrap_intervals(mixed, 1)
    assert set(map(tuple, bootstrap_intervals(np.diag([5, 5]), 1).values())) == {(1.0, 1.0)}


def test_bootstrap_intervals_of_many_classes_take_no_more_memory_than_the_occupied_cells() -> None:
    matrix = np.zeros((2000, 2000), dtype=np.int64)
    matrix[np.arange(2000), np.arange(2000)] = 1
    matrix[0, 1] = 50
    low, high = bootstrap_intervals(matrix, 1)["accuracy"]
    assert low < 2000 / 2050 < high


def test_many_rows_get_fewer_resamples_and_never_too_few() -> None:
    assert [resamples_of(rows) for rows in (0, 1, 50_000, 100_000, 10_000_000)] == [1000, 1000, 1000, 500, 200]
