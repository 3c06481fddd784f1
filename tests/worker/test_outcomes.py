"""What evaluations tell beside the metrics: calibration, marginal probabilities, slices."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve

from worker.heads.modeling_crf import illegal_transitions
from worker.training.outcomes import BINS, calibrate
from worker.training.sequences import Chain, best_paths, confidences

LABELS = ["O", "B-PER", "I-PER"]


def test_calibration_bins_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(2)
    probabilities = generator.random(2000) ** 0.5
    right = generator.random(2000) < probabilities * 0.8
    found = calibrate(probabilities, right, "answers")
    assert found is not None
    share, mean = calibration_curve(right, probabilities, n_bins=BINS)
    assert [part["accuracy"] for part in found.bins] == pytest.approx(share, abs=1e-9)
    assert [part["confidence"] for part in found.bins] == pytest.approx(mean, abs=1e-9)
    counts = np.array([part["count"] for part in found.bins])
    assert counts.sum() == 2000
    assert found.ece == pytest.approx((counts * np.abs(share - mean)).sum() / 2000, abs=1e-9)


def test_calibration_computed_by_hand() -> None:
    found = calibrate(np.array([1.0, 1.0, 0.6, 0.0]), np.array([True, False, True, False]), "answers")
    assert found is not None
    assert [(part["count"], part["accuracy"]) for part in found.bins] == [(1, 0.0), (1, 1.0), (2, 0.5)]
    assert found.ece == pytest.approx((0.0 + 0.4 + 2 * 0.5) / 4)
    assert calibrate(np.array([]), np.array([], dtype=bool), "answers") is None


def test_confidences_under_a_field_are_the_shares_of_all_legal_sequences() -> None:
    torch.manual_seed(3)
    sentences = [torch.randn(length, 3).numpy() for length in (4, 1, 0, 3)]
    chain = Chain(torch.randn(3), torch.randn(3, 3), torch.randn(3))
    paths = best_paths(sentences, chain, LABELS)
    found = confidences(sentences, paths, chain, LABELS)
    no_start, no_step = illegal_transitions(tuple(LABELS))
    for logits, path, of_words in zip(sentences, paths, found, strict=True):
        length = len(logits)
        assert len(of_words) == length
        if not length:
            continue
        totals = np.zeros((length, 3))
        for tags in np.ndindex(*[3] * length):
            if no_start[tags[0]] or any(no_step[a, b] for a, b in pairwise(tags)):
                continue
            score = chain.start[tags[0]] + chain.end[tags[-1]]
            score += sum(chain.step[a, b] for a, b in pairwise(tags))
            score += sum(float(logits[word, tag]) for word, tag in enumerate(tags))
            totals[range(length), list(tags)] += float(torch.exp(score))
        marginals = totals / totals.sum(axis=1, keepdims=True)
        assert of_words == pytest.approx([marginals[word, tag] for word, tag in enumerate(path)], abs=1e-5)


def test_confidences_without_a_field_are_those_of_each_word() -> None:
    logits = np.array([[0.0, 1.0, 3.0], [2.0, 0.0, 0.0]], dtype=np.float32)
    [found] = confidences([logits], [[2, 0]], None, LABELS)
    expected = np.exp(logits).max(axis=1) / np.exp(logits).sum(axis=1)
    assert found == pytest.approx(expected, abs=1e-6)
