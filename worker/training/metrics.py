"""Classification metrics: scikit-learn's definitions, with bootstrap intervals."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

RESAMPLES = 1000
DRAWN_ROWS = 50_000_000  # beyond it there are fewer resamples, and never fewer than 200
FEWEST_RESAMPLES = 200
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
    """`labels`, `per_class` (precision, recall, f1, support), `confusion_matrix` [truth][predicted], `intervals`."""
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
        "resamples": RESAMPLES,
    }


def bootstrap_intervals(matrix: NDArray[np.int64], seed: int) -> dict[str, list[float]]:
    """95 % percentile bootstrap intervals (Efron 1979) of every metric but the loss, from a confusion matrix.

    Drawing n rows with replacement is a multinomial draw over the matrix's cells, and the metrics are functions of the
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
    samples: dict[str, list[NDArray[np.float64]]] = {}
    chunk = max(1, min(RESAMPLES, CELLS_PER_CHUNK // len(counts)))
    for start in range(0, RESAMPLES, chunk):
        draws = generator.multinomial(total, counts / total, size=min(chunk, RESAMPLES - start))
        hits = draws[:, right] @ is_truth[right]
        of_truth, of_predicted = draws @ is_truth, draws @ is_predicted
        scores = {
            "precision": divide(hits, of_predicted),
            "recall": divide(hits, of_truth),
            "f1": divide(2 * hits, of_truth + of_predicted),
        }
        occurring = (of_truth + of_predicted > 0).sum(axis=1)
        samples.setdefault("accuracy", []).append(draws[:, right].sum(axis=1) / total)
        for name, of_classes in scores.items():
            samples.setdefault(f"{name}_macro", []).append(of_classes.sum(axis=1) / occurring)
            samples.setdefault(f"{name}_weighted", []).append((of_classes * of_truth).sum(axis=1) / total)
    return {
        name: [float(bound) for bound in np.percentile(np.concatenate(found), [2.5, 97.5])]
        for name, found in samples.items()
    }


def resamples_of(rows: int) -> int:
    """How many resamples are drawn where their cost grows with the rows."""
    return max(FEWEST_RESAMPLES, min(RESAMPLES, DRAWN_ROWS // max(1, rows)))


def divide(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """The quotient; 0 where it does not exist."""
    return np.divide(part, whole, out=np.zeros(np.shape(part)), where=whole > 0)
