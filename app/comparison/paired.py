"""Paired tests of two systems on the same rows: approximate randomization, bootstrap, McNemar.

Noreen 1989: if two systems are equally good, each row's results may as well be swapped. The p-value is the share of
random swappings whose difference is at least as large as the one observed, the observed one counted in.
Koehn 2004: rows are drawn with replacement, the same for both; the interval is that of the differences.
McNemar 1947, exact: of the rows that one gets right and the other wrong, each is as likely either way.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.catalog.measures import Measure, Statistics
from app.comparison import forms
from app.comparison.draws import alike, bootstrap_weights, chunks, swaps
from app.comparison.forms import SUMS

Floats = NDArray[np.float64]

RANDOMIZATIONS, RESAMPLES = 10_000, 1_000
DRAWN_ROWS = 20_000_000  # beyond it there are fewer, and never fewer than
FEWEST = 1_000
LOOPED_ROWS, FEWEST_LOOPED = 5_000_000, 500  # as above, where resamples are computed one by one
ROUNDING = 1e-10  # differences that are this close, relative to the metric, are equal


@dataclass(frozen=True)
class System:
    """Statistics of one system, [rows, columns], and what they mean."""

    values: Floats
    meaning: Statistics

    def take(self, names: Sequence[str]) -> Floats:
        """Some columns, [rows, names]."""
        return self.values[:, [self.meaning.columns.index(name) for name in names]]


@dataclass(frozen=True)
class Difference:
    """One metric of both, b - a, and what resampling says of the difference."""

    name: str
    lower_is_better: bool
    a: float
    b: float
    difference: float
    interval: tuple[float, float]
    p_value: float
    randomizations: int
    resamples: int


@dataclass(frozen=True)
class Discordance:
    """Rows that one of the two gets right and the other wrong."""

    only_a_right: int
    only_b_right: int
    p_value: float


@dataclass(frozen=True)
class _Test:
    """Differences b - a: as observed, after random swappings, and of bootstrap samples."""

    a: float
    b: float
    swapped: Floats
    resampled: Floats


def different_gold(a: System, b: System) -> int:
    """How many rows have different right answers in the two; such rows cannot be compared."""
    names = [name for name in a.meaning.gold if name in b.meaning.gold]
    return int((a.take(names) != _aligned(a, b).take(names)).any(axis=1).sum()) if names else 0


def differences(a: System, b: System, seed: int) -> list[Difference]:
    """Every measure that both have. The draws depend on the seed alone, and are the same for all measures."""
    b = _aligned(a, b)
    shared = [measure for measure in a.meaning.measures if measure in b.meaning.measures]
    return [_difference(measure, a, b, seed) for measure in shared]


def discordance(a: System, b: System) -> Discordance | None:
    """McNemar's table and exact p-value; None where rows are not simply right or wrong."""
    if a.meaning.right is None or a.meaning.right != b.meaning.right:
        return None
    of_a, of_b = (system.take([a.meaning.right])[:, 0] > 0 for system in (a, b))
    only_a, only_b = int((of_a & ~of_b).sum()), int((of_b & ~of_a).sum())
    return Discordance(only_a, only_b, exact_mcnemar(only_a, only_b))


def exact_mcnemar(one: int, other: int) -> float:
    """Two-sided binomial p-value of so uneven a split of `one + other` tosses of a coin."""
    total = one + other
    log_all = math.lgamma(total + 1) - total * math.log(2)
    tail = math.fsum(
        math.exp(log_all - math.lgamma(count + 1) - math.lgamma(total - count + 1))
        for count in range(min(one, other) + 1)
    )
    return min(1.0, 2 * tail)


def _aligned(a: System, b: System) -> System:
    """`b` with the ids that `a` gives to classes; classes that `a` does not know come behind."""
    classes = {name: index for index, name in enumerate(a.meaning.classes)}
    ids = np.array([classes.setdefault(name, len(classes)) for name in b.meaning.classes], dtype=np.float64)
    if not len(ids):
        return b
    values = b.values.copy()
    named = {name for measure in b.meaning.measures if measure.form == "f1_macro" for name in measure.columns}
    for name in named:
        column = b.meaning.columns.index(name)
        values[:, column] = ids[values[:, column].astype(np.int64)]
    return System(values, b.meaning)


def _difference(measure: Measure, a: System, b: System, seed: int) -> Difference:
    columns_a, columns_b = a.take(measure.columns), b.take(measure.columns)
    if measure.form == "spearman":
        test = _ranked(columns_a, columns_b, seed)
    elif measure.form == "f1_macro":
        test = _classes(columns_a, columns_b, seed)
    else:
        if measure.form in ("pearson", "r2"):
            columns_a, columns_b = (forms.moments(*columns.T) for columns in (columns_a, columns_b))
        test = _sums(columns_a, columns_b, SUMS[measure.form], seed)
    observed = test.b - test.a
    rounding = ROUNDING * max(abs(test.a), abs(test.b))
    as_large = int((np.abs(test.swapped) >= abs(observed) - rounding).sum())
    low, high = np.percentile(test.resampled, [2.5, 97.5])
    return Difference(
        name=measure.name,
        lower_is_better=measure.lower_is_better,
        a=test.a,
        b=test.b,
        difference=observed,
        interval=(float(low), float(high)),
        p_value=(as_large + 1) / (len(test.swapped) + 1),
        randomizations=len(test.swapped),
        resamples=len(test.resampled),
    )


def _sums(a: Floats, b: Floats, form: Callable[[Floats, int], Floats], seed: int) -> _Test:
    """Metrics that are functions of sums over rows."""
    rows, width = a.shape
    total_a, total_b = a.sum(axis=0), b.sum(axis=0)
    observed = form(np.stack([total_a, total_b]), rows)
    swapped = [form(total_b - moved, rows) - form(total_a + moved, rows) for moved in _moves(b - a, seed)]
    resampled: list[Floats] = []
    kinds, counts, _ = alike(np.concatenate([a, b], axis=1))
    for weights in _resamples(counts, seed):
        sums = weights @ kinds
        resampled.append(form(sums[:, width:], rows) - form(sums[:, :width], rows))
    return _Test(float(observed[0]), float(observed[1]), np.concatenate(swapped), np.concatenate(resampled))


def _moves(gains: Floats, seed: int) -> Iterator[Floats]:
    """What random swappings move from one sum to the other, [size, columns], in chunks."""
    differing = gains[np.any(gains != 0, axis=1)]
    if not len(differing):
        yield np.zeros((1, gains.shape[1]))
        return
    kinds, counts, _ = alike(differing)
    generator = np.random.default_rng((seed, 1))
    for size in chunks(_number(RANDOMIZATIONS, len(kinds), DRAWN_ROWS, FEWEST), len(kinds)):
        yield swaps(generator, counts, size) @ kinds


def _resamples(counts: NDArray[np.int64], seed: int) -> Iterator[Floats]:
    generator = np.random.default_rng((seed, 2))
    width = int(counts.sum()) if 4 * len(counts) >= counts.sum() else len(counts)
    for size in chunks(_number(RESAMPLES, width, DRAWN_ROWS, FEWEST_LOOPED), width):
        yield bootstrap_weights(generator, counts, size)


def _classes(a: Floats, b: Floats, seed: int) -> _Test:
    """Macro F1, from the true and the predicted class of every row."""
    triples, counts, _ = alike(np.column_stack([a, b[:, 1]]))
    truth, of_a, of_b = triples.astype(np.int64).T
    number = int(triples.max()) + 1

    def f1(*parts: tuple[NDArray[np.int64], Floats]) -> float:
        """Macro F1 where (predicted, weight) are added up."""
        hits, marks = np.zeros(number), np.zeros(number)
        for predicted, weight in parts:
            right = predicted == truth
            hits += np.bincount(truth[right], weight[right], number)
            marks += np.bincount(truth, weight, number) + np.bincount(predicted, weight, number)
        return float(forms.f1_macro(hits[None], marks[None])[0])

    whole = counts.astype(np.float64)
    apart = of_a != of_b
    swapped: list[float] = [0.0]
    if apart.any():
        swapped = []
        generator = np.random.default_rng((seed, 1))
        for size in chunks(_number(RANDOMIZATIONS, len(triples), LOOPED_ROWS, FEWEST_LOOPED), len(triples)):
            for drawn in swaps(generator, counts[apart], size):
                moved = np.zeros(len(triples))
                moved[apart] = drawn
                swapped.append(f1((of_b, whole - moved), (of_a, moved)) - f1((of_a, whole - moved), (of_b, moved)))
    resampled = [f1((of_b, drawn)) - f1((of_a, drawn)) for weights in _resamples(counts, seed) for drawn in weights]
    return _Test(f1((of_a, whole)), f1((of_b, whole)), np.array(swapped), np.array(resampled))


def _ranked(a: Floats, b: Floats, seed: int) -> _Test:
    """Spearman's correlation, whose ranks every resample has to find anew."""
    rows = len(a)
    truth = forms.places(a[:, 0])
    of_a, of_b = np.split(forms.places(np.concatenate([a[:, 1], b[:, 1]])), 2)

    def gain(truth: NDArray[np.int64], one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
        ranks = forms.ranks(truth)
        return forms.correlation(ranks, forms.ranks(other)) - forms.correlation(ranks, forms.ranks(one))

    number = _number(RANDOMIZATIONS, rows, LOOPED_ROWS, FEWEST_LOOPED)
    swapped: list[float] = [0.0]
    if (of_a != of_b).any():
        generator = np.random.default_rng((seed, 1))
        coins = (generator.random(rows) < 0.5 for _ in range(number))
        swapped = [gain(truth, np.where(coin, of_b, of_a), np.where(coin, of_a, of_b)) for coin in coins]
    generator = np.random.default_rng((seed, 2))
    draws = (generator.integers(0, rows, rows) for _ in range(min(RESAMPLES, number)))
    resampled = [gain(truth[drawn], of_a[drawn], of_b[drawn]) for drawn in draws]
    ranks = forms.ranks(truth)
    observed = [forms.correlation(ranks, forms.ranks(of)) for of in (of_a, of_b)]
    return _Test(observed[0], observed[1], np.array(swapped), np.array(resampled))


def _number(wanted: int, rows: int, drawn: int, fewest: int) -> int:
    return max(fewest, min(wanted, drawn // max(1, rows)))
