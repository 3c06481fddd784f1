"""Heads made of class means, against the distances that they stand for."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import log_softmax

from worker.training.prototypes import ClassMeans, head_of, likeliest_scale

Floats = NDArray[np.float64]
LABELS = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])


def features(spread: float = 1.0) -> Floats:
    generator = np.random.default_rng(6)
    centres = np.array([[2.0, 0, 0, 1], [0, 2, 0, 1], [0, 0, 2, 1]])
    return centres[LABELS] + spread * generator.normal(size=(len(LABELS), 4))


def means_of(rows: Floats, weights: Floats | None = None, classes: int = 3) -> ClassMeans:
    found = ClassMeans.none(classes, rows.shape[1])
    weights = np.ones(len(rows)) if weights is None else weights
    for part in (slice(0, 4), slice(4, None)):
        found.add(rows[part], LABELS[part], weights[part])
    return found


def test_logits_are_minus_the_scaled_distances_and_the_shares_of_the_labels():
    rows, new = features(), np.random.default_rng(1).normal(size=(5, 4))
    head = head_of(means_of(rows), 0.7, bias=True)
    assert head.bias is not None
    means = np.stack([rows[label == LABELS].mean(axis=0) for label in range(3)])
    distances = np.square(new[:, None] - means[None]).sum(axis=2)
    expected = log_softmax(-0.7 * distances + np.log(np.array([3, 2, 4]) / 9), axis=1)
    np.testing.assert_allclose(log_softmax(new @ head.weight.T + head.bias, axis=1), expected)


def test_without_a_bias_logits_are_scaled_cosines_times_the_length():
    rows, new = features(), np.random.default_rng(1).normal(size=(5, 4))
    head = head_of(means_of(rows), 0.7, bias=False)
    assert head.bias is None
    means = np.stack([rows[label == LABELS].mean(axis=0) for label in range(3)])
    cosines = new @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
    np.testing.assert_allclose(log_softmax(new @ head.weight.T, axis=1), log_softmax(0.7 * cosines, axis=1))


def test_weighted_rows_count_by_their_weights():
    rows, weights = features(), np.linspace(0.5, 2, len(LABELS))
    found = means_of(rows, weights)
    np.testing.assert_allclose(found.means[1], np.average(rows[3:5], axis=0, weights=weights[3:5]))
    np.testing.assert_allclose(np.exp(found.log_shares[1]), weights[3:5].sum() / weights.sum())


def leave_one_out(rows: Floats, scale: float) -> tuple[float, float]:
    """Mean log-likelihood, with a doubt of one in ten, and accuracy of rows, each by means computed anew without it."""
    shares = np.log(np.array([3, 2, 4]) / 9)
    scores: list[float] = []
    right: list[bool] = []
    for place, label in enumerate(LABELS):
        others = np.arange(len(LABELS)) != place
        means = np.stack([rows[others & (one == LABELS)].mean(axis=0) for one in range(3)])
        logits = -scale * np.square(rows[place] - means).sum(axis=1) + shares
        likelihoods = log_softmax(logits)
        scores.append(float(0.9 * likelihoods[label] + 0.1 * likelihoods.mean()))
        right.append(bool(logits.argmax() == label))
    return float(np.mean(scores)), float(np.mean(right))


@pytest.mark.parametrize("spread", [0.6, 1.0, 2.5])
def test_the_scale_is_the_likeliest_for_rows_that_their_means_do_not_contain(spread: float):
    rows = features(spread)
    found = likeliest_scale(means_of(rows), rows, LABELS, np.ones(len(LABELS)), bias=True)
    best, accuracy = leave_one_out(rows, found.value)
    assert found.accuracy == pytest.approx(accuracy)
    for factor in (0.8, 0.95, 1.05, 1.25):
        assert leave_one_out(rows, found.value * factor)[0] < best


def test_one_example_of_each_label_gives_a_head_that_tells_them_apart():
    rows = np.eye(3) * 100
    found = ClassMeans.none(3, 3)
    found.add(rows, np.arange(3), np.ones(3))
    for bias in (True, False):
        scale = likeliest_scale(found, rows, np.arange(3), np.ones(3), bias=bias)
        assert scale.accuracy is None
        head = head_of(found, scale.value, bias=bias)
        logits = rows @ head.weight.T + (0 if head.bias is None else head.bias)
        assert (logits.argmax(axis=1) == np.arange(3)).all()
        assert 0.5 < logits.max() - np.median(logits) < 5


def test_a_label_without_examples_is_unlikely_and_nothing_breaks():
    rows = features()
    found = means_of(rows, classes=4)
    head = head_of(found, 0.5, bias=True)
    assert head.bias is not None
    logits = rows @ head.weight.T + head.bias
    assert np.isfinite(logits).all()
    assert (logits.argmax(axis=1) != 3).all()
