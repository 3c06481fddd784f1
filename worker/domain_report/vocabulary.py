"""How far the words of the target texts are from those of the training texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from worker.domain_report.corpora import Corpora
from worker.domain_report.words import vocabulary_words

TEXTS, CHARACTERS = 20_000, 20_000_000  # of each side: some seconds
SHUFFLES = 20
WORDS = 20  # of each side that are shown

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MarkedWord:
    """A word that one side uses more than the other: how often in a million words, and how sure that is."""

    word: str
    target_per_million: float
    source_per_million: float
    z: float


@dataclass(frozen=True)
class VocabularyShift:
    """Unigram distributions of both sides, compared.

    `divergence`: Jensen & Shannon's (Lin 1991) in bits, from 0 (the same) to 1 (no word in common).
    `without_shift`: its mean where texts are dealt to the two sides at random. Finite samples of one and the same
    distribution differ by about so much. `unseen_tokens`, `unseen_types`: shares of the target's words, counted with
    and without repetition, that do not stand in the training texts.

    `target_words` and `source_words` are the most over-represented ones: z-scores of log-odds ratios with an
    informative Dirichlet prior (Monroe et al. 2008, equations 15, 20 and 22), which is both sides together, of as many
    words as the smaller has.
    """

    source_texts: int
    target_texts: int
    source_words_counted: int
    target_words_counted: int
    divergence: float
    without_shift: float
    unseen_tokens: float
    unseen_types: float
    target_words: list[MarkedWord]
    source_words: list[MarkedWord]


def shift(corpora: Corpora, seed: int) -> VocabularyShift | None:
    """The shift from the training texts to the target texts; None where a side has no words."""
    assert corpora.target is not None
    sides = [corpus.sample(TEXTS, CHARACTERS, seed) for corpus in (corpora.source, corpora.target)]
    index: dict[str, int] = {}
    matrix = _counts([text for side in sides for text in side], index)
    of_source = np.arange(matrix.shape[0]) < len(sides[0])
    everything = _summed(matrix, np.ones(len(of_source)))
    source = _summed(matrix, of_source)
    target = everything - source
    if not source.sum() or not target.sum():
        return None
    generator = np.random.default_rng((seed, 4))
    dealt = [_summed(matrix, generator.permutation(of_source)) for _ in range(SHUFFLES)]
    without = [divergence(one, everything - one) for one in dealt if 0 < one.sum() < everything.sum()]
    new = source == 0
    scores = log_odds(target, source)
    words = list(index)
    order = np.argsort(-scores, kind="stable")

    def marked(places: NDArray[np.int64]) -> list[MarkedWord]:
        return [
            MarkedWord(
                words[place],
                1e6 * float(target[place] / target.sum()),
                1e6 * float(source[place] / source.sum()),
                float(scores[place]),
            )
            for place in places
        ]

    return VocabularyShift(
        source_texts=len(sides[0]),
        target_texts=len(sides[1]),
        source_words_counted=int(source.sum()),
        target_words_counted=int(target.sum()),
        divergence=divergence(source, target),
        without_shift=float(np.mean(without)) if without else 0.0,
        unseen_tokens=float(target[new].sum() / target.sum()),
        unseen_types=float((new & (target > 0)).sum() / (target > 0).sum()),
        target_words=marked(order[:WORDS][scores[order[:WORDS]] > 0]),
        source_words=marked(order[::-1][:WORDS][scores[order[::-1][:WORDS]] < 0]),
    )


def divergence(one: Floats, other: Floats) -> float:
    """Jensen-Shannon divergence in bits of two distributions, given as counts."""
    p, q = one / one.sum(), other / other.sum()
    middle = (p + q) / 2
    halves = [float((part[there := part > 0] * np.log2(part[there] / middle[there])).sum()) for part in (p, q)]
    return min(1.0, max(0.0, sum(halves) / 2))


def log_odds(one: Floats, other: Floats) -> Floats:
    """z-scores of the log-odds ratios of words, by their counts; greater than 0 where `one` uses a word more."""
    both = one + other
    prior = both * min(one.sum(), other.sum()) / both.sum()
    strength = prior.sum()

    def odds(counts: Floats) -> Floats:
        there = counts + prior
        return np.log(there / np.maximum(counts.sum() + strength - there, 1e-12))

    return (odds(one) - odds(other)) / np.sqrt(1 / (one + prior) + 1 / (other + prior))


def _counts(texts: Sequence[str], index: dict[str, int]) -> Any:
    """How often each word stands in each text, [texts, words]; words get their places in `index`."""
    places: list[NDArray[np.int64]] = []
    for text in texts:
        found = [index.setdefault(word, len(index)) for word in vocabulary_words(text)]
        places.append(np.array(found, dtype=np.int64))
    rows = np.repeat(np.arange(len(texts)), [len(found) for found in places])
    columns = np.concatenate(places) if places else np.empty(0, dtype=np.int64)
    return cast(Any, csr_matrix)((np.ones(len(columns)), (rows, columns)), shape=(len(texts), len(index)))


def _summed(matrix: Any, weights: NDArray[Any]) -> Floats:
    return np.asarray(matrix.T @ weights.astype(np.float64), dtype=np.float64)
