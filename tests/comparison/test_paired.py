"""Paired tests: against the libraries' own, against every possible swapping, on known answers."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from app.catalog.measures import Measure, Statistics
from app.comparison.paired import System, differences, different_gold, discordance, exact_mcnemar

ROWS = 400
MEASURES = {
    "accuracy": Measure(name="accuracy", form="mean", columns=("right",)),
    "f1_macro": Measure(name="f1_macro", form="f1_macro", columns=("truth", "predicted")),
    "f1": Measure(name="f1", form="f1", columns=("hits", "guessed", "gold")),
    "recall": Measure(name="recall", form="ratio", columns=("hits", "gold")),
    "perplexity": Measure(name="perplexity", form="exp_ratio", columns=("loss", "tokens"), lower_is_better=True),
    "rmse": Measure(name="rmse", form="root_mean", columns=("squared",), lower_is_better=True),
    "pearson": Measure(name="pearson", form="pearson", columns=("x", "y")),
    "spearman": Measure(name="spearman", form="spearman", columns=("x", "y")),
    "r2": Measure(name="r2", form="r2", columns=("x", "y")),
}
CLASSES = ("a", "b", "c")


def system(quality: float, seed: int, rows: int = ROWS, classes: tuple[str, ...] = CLASSES) -> System:
    """Statistics of a made-up model that is right with this probability; the rows are those of all seeds."""
    shared, own = np.random.default_rng(1), np.random.default_rng(seed)
    truth, x = shared.integers(0, 3, rows), shared.normal(size=rows).round(1)
    tokens, gold = shared.integers(1, 9, rows), shared.integers(0, 4, rows)
    right = own.random(rows) < quality
    predicted = np.where(right, truth, (truth + 1) % 3)
    hits = np.where(right, gold, 0)
    y = x + own.normal(size=rows) * (1 - quality)
    columns = {
        "truth": [classes.index(CLASSES[label]) for label in truth],
        "predicted": [classes.index(CLASSES[label]) for label in predicted],
        "right": right,
        "hits": hits,
        "guessed": np.maximum(hits, 1),
        "gold": gold,
        "loss": tokens * (1 - quality) * own.random(rows),
        "tokens": tokens,
        "x": x,
        "y": y,
        "squared": (x - y) ** 2,
    }
    meaning = Statistics(
        columns=tuple(columns),
        measures=tuple(MEASURES.values()),
        classes=classes,
        gold=("truth", "gold", "x"),
        right="right",
    )
    return System(np.column_stack([np.asarray(column, dtype=np.float64) for column in columns.values()]), meaning)


def only(name: str, of: System) -> System:
    return System(of.values, of.meaning.model_copy(update={"measures": (MEASURES[name],)}))


def test_metrics_are_those_of_the_libraries() -> None:
    model = system(0.7, 2)
    found = {metric.name: metric.a for metric in differences(model, model, seed=0)}
    truth, predicted, right, hits, guessed, gold, loss, tokens, x, y, squared = model.values.T
    expected = {
        "accuracy": right.mean(),
        "f1_macro": f1_score(truth, predicted, average="macro"),
        "f1": 2 * hits.sum() / (guessed.sum() + gold.sum()),
        "recall": hits.sum() / gold.sum(),
        "perplexity": math.exp(loss.sum() / tokens.sum()),
        "rmse": math.sqrt(squared.mean()),
        "pearson": stats.pearsonr(x, y).statistic,
        "spearman": stats.spearmanr(x, y).statistic,
        "r2": 1 - squared.mean() / x.var(),
    }
    assert found == pytest.approx(expected, abs=1e-9)


def test_a_better_system_is_told_from_a_worse_one_and_two_of_a_kind_are_not() -> None:
    worse, better, alike = system(0.6, 2), system(0.8, 3), system(0.8, 4)
    for found in differences(worse, better, seed=0):
        assert found.p_value < 0.01, found
        low, high = found.interval
        assert high < 0 if found.lower_is_better else low > 0
    by_chance = [found for found in differences(better, alike, seed=0) if found.p_value < 0.05]
    assert len(by_chance) <= 2
    for found in differences(better, better, seed=0):
        assert (found.difference, found.p_value) == (0, 1)


def test_the_same_seed_gives_the_same_numbers_and_turning_the_two_turns_the_signs() -> None:
    a, b = system(0.7, 2), system(0.75, 3)
    once = differences(a, b, seed=5)
    assert differences(a, b, seed=5) == once
    for found, turned in zip(once, differences(b, a, seed=5), strict=True):
        assert turned.difference == pytest.approx(-found.difference)
        assert turned.p_value == pytest.approx(found.p_value, abs=0.03)


@pytest.mark.parametrize("name", list(MEASURES))
def test_p_values_are_the_shares_of_all_swappings_that_are_as_large(name: str) -> None:
    """Of eight rows there are 256 swappings: all of them, with the metric computed anew."""
    a, b = only(name, system(0.5, 7, rows=8)), only(name, system(0.8, 8, rows=8))
    [found] = differences(a, b, seed=0)
    as_large = 0
    for coins in itertools.product((False, True), repeat=8):
        swap = np.array(coins)[:, None]
        one, other = np.where(swap, b.values, a.values), np.where(swap, a.values, b.values)
        as_large += abs(_metric(name, other) - _metric(name, one)) >= abs(found.difference) - 1e-9
    assert found.p_value == pytest.approx(as_large / 256, abs=0.02)


def _metric(name: str, values: np.ndarray) -> float:
    truth, predicted, right, hits, guessed, gold, loss, tokens, x, y, squared = values.T
    match name:
        case "accuracy":
            return right.mean()
        case "f1_macro":
            return float(f1_score(truth, predicted, average="macro"))
        case "f1":
            return 2 * hits.sum() / (guessed.sum() + gold.sum())
        case "recall":
            return hits.sum() / gold.sum()
        case "perplexity":
            return math.exp(loss.sum() / tokens.sum())
        case "rmse":
            return math.sqrt(squared.mean())
        case "pearson":
            return stats.pearsonr(x, y).statistic
        case "spearman":
            return stats.spearmanr(x, y).statistic
        case _:
            return 1 - squared.mean() / x.var()


@pytest.mark.parametrize("name", ["accuracy", "f1_macro", "rmse", "spearman"])
def test_intervals_are_those_of_scipys_paired_bootstrap(name: str) -> None:
    a, b = only(name, system(0.6, 2)), only(name, system(0.7, 3))
    [found] = differences(a, b, seed=0)

    def difference(rows: np.ndarray) -> float:
        return _metric(name, b.values[rows]) - _metric(name, a.values[rows])

    expected = stats.bootstrap(
        (np.arange(ROWS),), difference, vectorized=False, n_resamples=300, method="percentile", rng=1
    ).confidence_interval
    width = expected.high - expected.low
    assert found.interval == pytest.approx((expected.low, expected.high), abs=0.2 * width)
    assert found.resamples == 1000


def test_mcnemar_is_the_exact_binomial_test() -> None:
    for one, other in ((0, 0), (1, 0), (3, 9), (40, 25), (1370, 1667), (0, 67)):
        expected = stats.binomtest(one, one + other).pvalue if one + other else 1.0
        assert exact_mcnemar(one, other) == pytest.approx(expected, rel=1e-9)
    a, b = system(0.6, 2), system(0.7, 3)
    found = discordance(a, b)
    assert found is not None
    right_a, right_b = a.values[:, 2], b.values[:, 2]
    assert found.only_a_right == (right_a > right_b).sum()
    assert found.only_b_right == (right_b > right_a).sum()


def test_classes_are_compared_by_their_names() -> None:
    a, b = system(0.6, 2), system(0.7, 3)
    other_order = system(0.7, 3, classes=("z", "c", "a", "b"))
    assert different_gold(a, other_order) == 0
    assert differences(a, other_order, seed=0)[1] == differences(a, b, seed=0)[1]
    renamed = System(b.values, b.meaning.model_copy(update={"classes": ("b", "a", "c")}))
    assert different_gold(a, renamed) == int((a.values[:, 0] != 2).sum())


def test_what_is_bounded_says_how_many_resamples_there_were() -> None:
    a, b = only("spearman", system(0.6, 2, rows=20_000)), only("spearman", system(0.6, 3, rows=20_000))
    [found] = differences(a, b, seed=0)
    assert (found.randomizations, found.resamples) == (500, 500)
