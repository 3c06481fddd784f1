"""Proxy A-distance where it is known: nothing, everything or a known part of the texts can be told."""

import numpy as np
import pytest

from worker.domain_report.corpora import SOURCE, TARGET, Corpora, Corpus
from worker.domain_report.separability import FEWEST_TEXTS, FOLDS, Sides, proxy_a_distance


def sides(source: list[str], target: list[str], most: int = 1000) -> Sides:
    found = Sides.of(Corpora(Corpus(SOURCE, source), Corpus(TARGET, target, target=True), []), most, seed=1)
    assert found is not None
    return found


def numbered(name: str, count: int) -> list[str]:
    return [f"{name} {number}" for number in range(count)]


def features(of: Sides, shift: float, width: int = 4) -> np.ndarray:
    """Gaussian noise by the text; target texts lie `shift` further along the first axis."""
    found = np.array(
        [np.random.default_rng([*text.encode()]).normal(size=width) for text in of.texts], dtype=np.float32
    )
    only_target = {of.texts[place] for place in of.place[of.is_target]} - {
        of.texts[place] for place in of.place[~of.is_target]
    }
    found[:, 0] += [shift * (text in only_target) for text in of.texts]
    return found


def test_the_same_texts_on_both_sides_cannot_be_told_apart() -> None:
    same = sides(numbered("a", 100), numbered("a", 100))
    found = proxy_a_distance(features(same, 9), same, seed=1)
    assert (found.error, found.value) == (0.5, 0)
    assert found.interval[0] == 0
    assert found.interval[1] < 0.4


def test_texts_that_lie_apart_are_all_told() -> None:
    apart = sides(numbered("a", 100), numbered("b", 60))
    found = proxy_a_distance(features(apart, 60), apart, seed=1)
    assert (found.error, found.value, found.interval) == (0, 2, (2, 2))


def test_two_samples_of_one_distribution_have_a_distance_about_zero() -> None:
    alike = sides(numbered("a", 400), numbered("b", 400))
    found = proxy_a_distance(features(alike, 0), alike, seed=1)
    assert found.value < 0.15
    assert found.interval[0] == 0


@pytest.mark.parametrize(("source", "target"), [(500, 500), (800, 200)])
def test_gaussians_a_known_way_apart_have_the_distance_of_the_best_classifier(source: int, target: int) -> None:
    """The error of the best classifier of two unit Gaussians 2 apart is 0.1587; it does not depend on their numbers."""
    some = sides(numbered("a", source), numbered("b", target))
    standard_error = (0.1587 * 0.8413 * (1 / source + 1 / target) / 4) ** 0.5  # of the mean of both sides' errors
    found = proxy_a_distance(features(some, 2), some, seed=1)
    assert found.value == pytest.approx(2 * (1 - 2 * 0.1587), abs=0.1)  # two standard errors of 1,000 texts
    assert found.interval[1] - found.interval[0] == pytest.approx(2 * 4 * 1.96 * standard_error, rel=0.2)
    assert found == proxy_a_distance(features(some, 2), some, seed=1)


def test_half_of_the_target_texts_being_training_texts_halves_the_distance() -> None:
    half = sides(numbered("a", 200), [*numbered("a", 100), *numbered("b", 100)])
    assert len(half.texts) == 300
    shared = {text for text in half.texts if text in numbered("a", 100)}
    folds = {text: set(half.fold[half.place == place]) for place, text in enumerate(half.texts)}
    assert all(len(folds[text]) == 1 for text in shared)  # never learned on one side and asked on the other
    found = proxy_a_distance(features(half, 60), half, seed=1)
    assert found.value == pytest.approx(1, abs=0.1)


def test_copies_and_empty_texts_are_left_out_and_samples_are_bounded() -> None:
    found = sides([*numbered("a", 40), *numbered("a", 40), "", " "], numbered("b", 90), most=50)
    assert (int((~found.is_target).sum()), int(found.is_target.sum())) == (40, 50)
    for target in (False, True):
        counts = np.bincount(found.fold[found.is_target == target], minlength=FOLDS)
        assert counts.max() - counts.min() <= 1
    few = Corpora(Corpus(SOURCE, numbered("a", 100)), Corpus(TARGET, numbered("b", FEWEST_TEXTS - 1)), [])
    assert Sides.of(few, 1000, seed=1) is None
