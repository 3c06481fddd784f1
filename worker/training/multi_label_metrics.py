"""Metrics where a text has any number of labels: scikit-learn's definitions, with bootstrap intervals."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.metrics import (
    accuracy_score,
    hamming_loss,
    multilabel_confusion_matrix,
    precision_recall_fscore_support,
)

from worker.training.metrics import CELLS_PER_CHUNK, ZERO, divide, resamples_of

Labels = NDArray[np.bool_]


def multi_label_values(truth: Labels, predicted: Labels) -> dict[str, float]:
    """Precision, recall and F1 over all decisions (micro) and as means over labels; both arrays are [texts, labels].

    `accuracy` is the share of texts with exactly the right labels, `hamming_loss` that of wrong decisions. What cannot
    be divided is 0, as in scikit-learn's defaults.
    """
    values = {
        "accuracy": float(accuracy_score(truth, predicted)),
        "hamming_loss": float(hamming_loss(truth, predicted)),
    }
    for average in ("micro", "macro", "weighted"):
        precision, recall, f1, _ = precision_recall_fscore_support(
            truth, predicted, average=average, zero_division=ZERO
        )
        values |= {
            f"precision_{average}": float(precision),
            f"recall_{average}": float(recall),
            f"f1_{average}": float(f1),
        }
    return values


def multi_label_detail(
    truth: Labels, predicted: Labels, labels: Sequence[str], thresholds: Sequence[float], seed: int
) -> dict[str, Any]:
    """`labels`, `thresholds` by label, `per_class` (scores, counts, threshold) and `intervals`."""
    counts = np.asarray(multilabel_confusion_matrix(truth, predicted), dtype=np.int64)
    columns = precision_recall_fscore_support(truth, predicted, average=None, zero_division=ZERO)
    rows = zip(labels, thresholds, counts, *(np.asarray(column) for column in columns), strict=True)
    return {
        "labels": list(labels),
        "thresholds": dict(zip(labels, thresholds, strict=True)),
        "per_class": [
            {
                "label": label,
                "precision": float(precision),
                "recall": float(recall),
                "f1": float(f1),
                "support": int(support),
                "true_positives": int(table[1, 1]),
                "false_positives": int(table[0, 1]),
                "false_negatives": int(table[1, 0]),
                "true_negatives": int(table[0, 0]),
                "threshold": threshold,
            }
            for label, threshold, table, precision, recall, f1, support in rows
        ],
        "intervals": bootstrap_intervals(truth, predicted, seed),
        "resamples": resamples_of(len(truth)),
    }


def bootstrap_intervals(truth: Labels, predicted: Labels, seed: int) -> dict[str, list[float]]:
    """95 % percentile bootstrap intervals (Efron 1979) of every metric but the loss, over texts.

    Texts with the same labels and predictions are alike, so drawing n of them is a multinomial draw over the different
    ones.
    """
    both = np.concatenate([truth, predicted], axis=1)
    _, first, numbers = np.unique(np.packbits(both, axis=1), axis=0, return_index=True, return_counts=True)
    truth, predicted = truth[first], predicted[first]
    right = (truth == predicted).all(axis=1)
    wrong = (truth != predicted).mean(axis=1)
    hits_of, truth_of, predicted_of = (
        csr_array(marks.astype(np.float64)) for marks in (truth & predicted, truth, predicted)
    )
    total = int(numbers.sum())
    resamples = resamples_of(total)
    generator = np.random.default_rng(seed)
    samples: dict[str, list[NDArray[np.float64]]] = {}
    chunk = max(1, min(resamples, CELLS_PER_CHUNK // max(len(numbers), truth.shape[1])))
    for start in range(0, resamples, chunk):
        draws = generator.multinomial(total, numbers / total, size=min(chunk, resamples - start)).astype(np.float64)
        products = (draws @ hits_of, draws @ truth_of, draws @ predicted_of)
        hits, of_truth, of_predicted = (np.asarray(product, dtype=np.float64) for product in products)
        drawn = {"accuracy": draws[:, right].sum(axis=1) / total, "hamming_loss": draws @ wrong / total}
        gold = of_truth.sum(axis=1)
        quotients: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {
            "precision": (hits, of_predicted),
            "recall": (hits, of_truth),
            "f1": (2 * hits, of_truth + of_predicted),
        }
        for name, (part, whole) in quotients.items():
            of_labels = divide(part, whole)
            drawn[f"{name}_micro"] = divide(part.sum(axis=1), whole.sum(axis=1))
            drawn[f"{name}_macro"] = of_labels.mean(axis=1)
            drawn[f"{name}_weighted"] = divide((of_labels * of_truth).sum(axis=1), gold)
        for name, values in drawn.items():
            samples.setdefault(name, []).append(values)
    return {
        name: [float(bound) for bound in np.percentile(np.concatenate(found), [2.5, 97.5])]
        for name, found in samples.items()
    }
