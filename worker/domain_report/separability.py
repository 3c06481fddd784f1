"""How well source and target can be told apart by their features: the proxy A-distance (Ben-David et al. 2007)."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from worker.domain_report.corpora import Corpora

TEXTS = {"cpu": 250}  # of each side, by device: MiniLM takes a core 15 s for them, before and after each
MOST_TEXTS = 1000
FEWEST_TEXTS = 20  # of each side: the held-out fifth of fewer says nothing
FOLDS = 5
RESAMPLES = 1000
# scikit-learn's inverse strength of the penalty. It hardly matters: from 0.0001 to 1 the distance of books and dvd in
# Blitzer's reviews is 1.80 to 1.82 by MiniLM's means, that of electronics and kitchen 1.82 to 1.90.
PENALTY = 0.01

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Distance:
    """Proxy A-distance from 0 (nothing tells the domains apart) to 2 (every text is told), and its 95 % interval."""

    value: float
    interval: tuple[float, float]
    error: float


@dataclass(frozen=True)
class Sides:
    """Different texts of the two sides: where each stands in `texts`, and the fold in which it is held out.

    A text that stands on both sides is held out on both at once: nobody can tell of which side it is.
    """

    texts: list[str]
    place: NDArray[np.int64]
    is_target: NDArray[np.bool_]
    fold: NDArray[np.int64]

    @classmethod
    def of(cls, corpora: Corpora, most: int, seed: int) -> "Sides | None":
        """At most so many different texts of each side; None where a side has fewer than FEWEST_TEXTS."""
        assert corpora.target is not None
        generator = np.random.default_rng((seed, 5))
        drawn: list[list[str]] = []
        for corpus in (corpora.source, corpora.target):
            different = sorted({text for text in corpus.texts if text.strip()})
            drawn.append([different[place] for place in generator.permutation(len(different))[:most]])
        if min(map(len, drawn)) < FEWEST_TEXTS:
            return None
        shared = set(drawn[0]) & set(drawn[1])
        fold = {text: number % FOLDS for number, text in enumerate(sorted(shared))}
        for side in drawn:
            fold |= {text: number % FOLDS for number, text in enumerate(text for text in side if text not in shared)}
        index = {text: number for number, text in enumerate(fold)}
        both = [*drawn[0], *drawn[1]]
        return cls(
            list(fold),
            np.array([index[text] for text in both], dtype=np.int64),
            np.arange(len(both)) >= len(drawn[0]),
            np.array([fold[text] for text in both], dtype=np.int64),
        )


def proxy_a_distance(features: NDArray[np.float32], sides: Sides, seed: int) -> Distance:
    """2 (1 - 2 e), at least 0, of the error e of a logistic regression on features [texts, width], held out in turn.

    The error is the mean of both sides' errors, so that neither counts more for its number. The interval is that of
    1,000 bootstrap resamples of the held-out texts, each side by itself; that other training texts would have given
    another classifier is not in it.
    """
    x, wrong = features.astype(np.float64)[sides.place], np.zeros(len(sides.place), dtype=bool)
    for fold in range(FOLDS):
        held_out = sides.fold == fold
        classifier = make_pipeline(
            StandardScaler(), LogisticRegression(C=PENALTY, class_weight="balanced", max_iter=300)
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a last digit more changes no side
            classifier.fit(x[~held_out], sides.is_target[~held_out])
        wrong[held_out] = classifier.predict(x[held_out]) != sides.is_target[held_out]
    generator = np.random.default_rng((seed, 6))
    errors, resampled = 0.0, np.zeros(RESAMPLES)
    for side in (~sides.is_target, sides.is_target):
        count, mistakes = int(side.sum()), int(wrong[side].sum())
        errors += mistakes / count / 2
        resampled += generator.binomial(count, mistakes / count, RESAMPLES) / count / 2
    low, high = np.percentile(_distance(resampled), [2.5, 97.5])
    return Distance(float(_distance(np.array(errors))), (float(low), float(high)), errors)


def _distance(error: Floats) -> Floats:
    return np.maximum(0.0, 2 * (1 - 2 * error))
