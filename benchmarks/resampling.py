"""`python -m benchmarks.resampling`: seconds for the intervals of an evaluation, and for a comparison of two.

Made-up predictions on 10,000 rows; beside it SciPy's own bootstrap with the library's own function, which computes
every resample anew.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import f1_score

from app.catalog.measures import Measure, Statistics
from app.comparison.paired import System, differences
from worker.training.entities import entity_detail
from worker.training.metrics import classification_detail
from worker.training.multi_label_metrics import bootstrap_intervals as multi_label_intervals
from worker.training.regression_metrics import bootstrap_intervals as regression_intervals

CLASSES = 77  # as banking77 has
QUALITY = 0.85


def timed(name: str, work: Callable[[], Any]) -> Any:
    """Do it, and say how long it took."""
    began, used = time.perf_counter(), time.process_time()
    found = work()
    print(f"{name}: {time.perf_counter() - began:.2f} s, {time.process_time() - used:.2f} of the processor", flush=True)
    return found


def classifier(generator: np.random.Generator, truth: NDArray[np.int64]) -> NDArray[np.int64]:
    """Predictions that are right with a probability of QUALITY."""
    return np.where(generator.random(len(truth)) < QUALITY, truth, generator.integers(0, CLASSES, len(truth)))


def system(truth: NDArray[Any], predicted: NDArray[Any], measures: tuple[Measure, ...]) -> System:
    """Statistics of one model."""
    columns = {"truth": truth, "predicted": predicted, "right": truth == predicted}
    meaning = Statistics(columns=tuple(columns), measures=measures, classes=tuple(map(str, range(CLASSES))))
    return System(np.column_stack([column.astype(np.float64) for column in columns.values()]), meaning)


def main() -> None:
    """Intervals of every kind of task, then comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    rows: int = parser.parse_args().rows
    generator = np.random.default_rng(1)
    labels = [str(label) for label in range(CLASSES)]
    truth = generator.integers(0, CLASSES, rows)
    one, other = classifier(generator, truth), classifier(generator, truth)
    numbers = generator.normal(size=rows)
    marks = generator.random((rows, 20)) < 0.15
    guessed_marks = marks ^ (generator.random((rows, 20)) < 0.05)
    tags = [["B-PER", "O", "B-LOC", "I-LOC", "O"] if row % 3 else ["O"] * 5 for row in range(rows)]
    guessed_tags = [sentence if row % 7 else ["O"] * 5 for row, sentence in enumerate(tags)]

    print(f"{rows:,} rows; 1,000 resamples unless said")
    timed(f"intervals, {CLASSES} classes", lambda: classification_detail(truth, one, labels, 1))
    timed("intervals, 20 labels, any number a text", lambda: multi_label_intervals(marks, guessed_marks, 1))
    timed("intervals, entities", lambda: entity_detail(tags, guessed_tags, ["LOC", "PER"], 1))
    timed("intervals, regression", lambda: regression_intervals(numbers, numbers + generator.normal(size=rows), 1))

    def macro_f1(places: NDArray[np.int64]) -> float:
        return float(f1_score(truth[places], one[places], average="macro"))

    timed(
        "SciPy's bootstrap of scikit-learn's macro F1, 20 resamples",
        lambda: stats.bootstrap(
            (np.arange(rows),), macro_f1, vectorized=False, n_resamples=20, method="percentile", rng=1
        ),
    )

    measures = (
        Measure(name="accuracy", form="mean", columns=("right",)),
        Measure(name="f1_macro", form="f1_macro", columns=("truth", "predicted")),
        Measure(name="spearman", form="spearman", columns=("truth", "predicted")),
        Measure(name="pearson", form="pearson", columns=("truth", "predicted")),
    )
    for measure in measures:
        a, b = (system(truth, predicted, (measure,)) for predicted in (one, other))
        [found] = timed(f"comparison by {measure.name}", lambda a=a, b=b: differences(a, b, 1))
        print(f"  p = {found.p_value:.3g}, {found.randomizations:,} randomizations, {found.resamples:,} resamples")


if __name__ == "__main__":
    main()
