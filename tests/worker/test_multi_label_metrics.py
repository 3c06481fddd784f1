import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, hamming_loss, precision_score, recall_score

from worker.training.multi_label_metrics import bootstrap_intervals, multi_label_detail, multi_label_values
from worker.training.thresholds import tune_thresholds

GENERATOR = np.random.default_rng(7)
TRUTH = GENERATOR.random((200, 4)) < [0.5, 0.2, 0.05, 0.0]
PREDICTED = np.where(GENERATOR.random(TRUTH.shape) < 0.8, TRUTH, ~TRUTH)


def test_every_metric_equals_the_librarys_own_function() -> None:
    values = multi_label_values(TRUTH, PREDICTED)
    for average in ("micro", "macro", "weighted"):
        for name, function in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
            expected = function(TRUTH, PREDICTED, average=average, zero_division=0.0)
            assert values[f"{name}_{average}"] == pytest.approx(expected, abs=1e-9)
    assert values["accuracy"] == pytest.approx(accuracy_score(TRUTH, PREDICTED), abs=1e-9)
    assert values["hamming_loss"] == pytest.approx(hamming_loss(TRUTH, PREDICTED), abs=1e-9)


def test_the_table_of_labels_equals_counts_by_hand() -> None:
    truth = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], dtype=bool)
    predicted = np.array([[1, 0], [0, 1], [0, 1], [0, 1]], dtype=bool)
    first, second = multi_label_detail(truth, predicted, ["a", "b"], (0.5, 0.25), seed=1)["per_class"]
    assert first == {
        "label": "a",
        "precision": 1.0,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
        "support": 2,
        "true_positives": 1,
        "false_positives": 0,
        "false_negatives": 1,
        "true_negatives": 2,
        "threshold": 0.5,
    }
    assert (second["true_positives"], second["false_positives"], second["threshold"]) == (2, 1, 0.25)


def test_bootstrap_intervals_are_those_of_resampled_rows() -> None:
    samples = GENERATOR.integers(0, 200, (150, 200))
    intervals = bootstrap_intervals(TRUTH, PREDICTED, seed=4)
    found = [multi_label_values(TRUTH[rows], PREDICTED[rows]) for rows in samples]
    assert set(intervals) == set(found[0])
    for name, interval in intervals.items():
        assert interval == pytest.approx(np.percentile([values[name] for values in found], [2.5, 97.5]), abs=0.03)
    assert intervals == bootstrap_intervals(TRUTH, PREDICTED, seed=4)


def test_texts_without_any_label_count_as_right_when_none_is_predicted() -> None:
    nothing = np.zeros((5, 2), dtype=bool)
    assert multi_label_values(nothing, nothing)["accuracy"] == 1.0
    assert bootstrap_intervals(nothing, nothing, seed=1)["accuracy"] == [1.0, 1.0]


def test_a_threshold_gives_the_highest_f1_that_any_threshold_gives() -> None:
    truth = GENERATOR.random((300, 3)) < 0.2
    probabilities = np.round(np.clip(GENERATOR.random((300, 3)) * 0.6 + truth * 0.2, 0, 1), 2)
    thresholds = tune_thresholds(truth, probabilities)
    for label, threshold in enumerate(thresholds):
        reached = f1_score(truth[:, label], probabilities[:, label] >= threshold)
        every = [f1_score(truth[:, label], probabilities[:, label] >= tried) for tried in np.arange(0, 1.005, 0.005)]
        assert reached == pytest.approx(max(every), abs=1e-12)
        assert 0 < threshold < 1


def test_of_several_best_thresholds_the_one_nearest_to_a_half_is_taken() -> None:
    truth = np.array([[True]] * 6 + [[False]] * 6)
    assert tune_thresholds(truth, np.array([[0.9]] * 6 + [[0.2]] * 6)) == (0.55,)
    with_gaps = np.array([[0.99], [0.95], [0.9], [0.9], [0.8], [0.7], *[[0.1]] * 6])
    assert tune_thresholds(truth, with_gaps) == (0.4,)


def test_a_label_that_few_texts_have_keeps_a_half() -> None:
    truth = np.array([[True]] * 4 + [[False]] * 20)
    assert tune_thresholds(truth, np.linspace(0.9, 0.1, 24)[:, None]) == (0.5,)
