"""Classification metrics: scikit-learn's definitions, with bootstrap intervals."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

RESAMPLES = 1000
ZERO: Any = 0.0  # scikit-learn annotates zero_division as text and documents a number
CELLS_PER_CHUNK = 4_000_000  # int64 cells of resampled confusion matrices held at once: 32 MB


def classification_values(truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> dict[str, float]:
    """Accuracy, and precision, recall and F1 as macro and weighted means over the labels that occur in either array.

    A label that is never predicted has precision 0 (`zero_division=0`), as in scikit-learn's defaults.
    """
    values = {"accuracy": float(accuracy_score(truth, predicted))}
    for average in ("macro", "weighted"):
        precision, recall, f1, _ = precision_recall_fscore_support(
            truth, predicted, average=average, zero_division=ZERO
        )
        values |= {
            f"precision_{average}": float(precision),
            f"recall_{average}": float(recall),
            f"f1_{average}": float(f1),
        }
    return values


def classification_detail(
    truth: NDArray[np.int64], predicted: NDArray[np.int64], labels: Sequence[str], seed: int
) -> dict[str, Any]:
    """`labels`, `per_class` (precision, recall, f1, support), `confusion_matrix` [truth][predicted] and `intervals`."""
    ids = np.arange(len(labels))
    matrix = np.asarray(confusion_matrix(truth, predicted, labels=ids), dtype=np.int64)
    columns = precision_recall_fscore_support(truth, predicted, labels=ids, zero_division=ZERO)
    rows = zip(labels, *(np.asarray(column) for column in columns), strict=True)
    return {
        "labels": list(labels),
        "per_class": [
            {"label": label, "precision": float(p), "recall": float(r), "f1": float(f1), "support": int(support)}
            for label, p, r, f1, support in rows
        ],
        "confusion_matrix": matrix.tolist(),
        "intervals": bootstrap_intervals(matrix, seed),
    }


def bootstrap_intervals(matrix: NDArray[np.int64], seed: int) -> dict[str, list[float]]:
    """95 % percentile bootstrap intervals (Efron 1979) of accuracy and f1_macro, from a confusion matrix.

    Drawing n rows with replacement is a multinomial draw over the matrix's cells, and both metrics are functions of the
    matrix: the result is that of resampling rows, at a cost that does not grow with them.
    """
    truth, predicted = np.nonzero(matrix)
    counts = matrix[truth, predicted]
    total = int(counts.sum())
    classes = matrix.shape[0]
    generator = np.random.default_rng(seed)
    # One-hot maps from occupied cells to classes, so that a chunk's row and column sums are two products.
    is_truth, is_predicted = np.eye(classes)[truth], np.eye(classes)[predicted]
    right = truth == predicted
    accuracies: list[NDArray[np.float64]] = []
    f1_means: list[NDArray[np.float64]] = []
    chunk = max(1, min(RESAMPLES, CELLS_PER_CHUNK // len(counts)))
    for start in range(0, RESAMPLES, chunk):
        draws = generator.multinomial(total, counts / total, size=min(chunk, RESAMPLES - start))
        hits = draws[:, right] @ is_truth[right]
        occurrences = draws @ is_truth + draws @ is_predicted  # 2 TP + FP + FN
        f1 = np.divide(2 * hits, occurrences, out=np.zeros_like(hits), where=occurrences > 0)
        accuracies.append(draws[:, right].sum(axis=1) / total)
        f1_means.append(f1.sum(axis=1) / (occurrences > 0).sum(axis=1))
    return {
        name: [float(bound) for bound in np.percentile(np.concatenate(samples), [2.5, 97.5])]
        for name, samples in (("accuracy", accuracies), ("f1_macro", f1_means))
    }
