"""Entity metrics: seqeval's strict IOB2 definition, over words, with bootstrap intervals over sentences."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from seqeval.metrics.v1 import precision_recall_fscore_support
from seqeval.scheme import IOB2

from worker.training.metrics import CELLS_PER_CHUNK, ZERO, divide, resamples_of

Tags = Sequence[Sequence[str]]


def entities(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Type, first word and end of every entity; an I-tag that continues nothing is none (seqeval's strict mode)."""
    found: list[tuple[str, int, int]] = []
    start, kind = -1, ""
    for index, tag in enumerate([*tags, "O"]):
        if start >= 0 and tag != f"I-{kind}":
            found.append((kind, start, index))
            start = -1
        if tag.startswith("B-"):
            start, kind = index, tag[2:]
    return found


def entity_values(truth: Tags, predicted: Tags) -> dict[str, float]:
    """Precision, recall and F1 over all entities, the mean F1 of the types, and the share of words with the right tag.

    What cannot be divided is 0: where there is no entity, there is nothing to be found.
    """
    words = sum(map(len, truth))
    right = sum(a == b for one, other in zip(truth, predicted, strict=True) for a, b in zip(one, other, strict=True))
    values = {"f1": 0.0, "precision": 0.0, "recall": 0.0, "f1_macro": 0.0}
    if any(map(entities, truth)) or any(map(entities, predicted)):
        precision, recall, f1, _ = _scores(truth, predicted, "micro")
        values = {"f1": float(f1), "precision": float(precision), "recall": float(recall)}
        values["f1_macro"] = float(_scores(truth, predicted, "macro")[2])
    return values | {"accuracy": right / words if words else 1.0}


def entity_detail(truth: Tags, predicted: Tags, types: Sequence[str], seed: int) -> dict[str, Any]:
    """`labels` (the types), `per_class` (precision, recall, f1, support), `intervals` of all metrics but the loss."""
    rows: dict[str, tuple[float, ...]] = {}
    found = sorted({kind for tags in (*truth, *predicted) for kind, *_ in entities(tags)})
    if found:
        rows = dict(zip(found, zip(*_scores(truth, predicted, None), strict=True), strict=True))
    per_class: list[dict[str, Any]] = []
    for kind in types:
        precision, recall, f1, support = rows.get(kind, (0.0, 0.0, 0.0, 0))
        per_class.append(
            {
                "label": kind,
                "precision": float(precision),
                "recall": float(recall),
                "f1": float(f1),
                "support": int(support),
            }
        )
    return {
        "labels": list(types),
        "per_class": per_class,
        "intervals": _intervals(truth, predicted, types, seed),
        "resamples": resamples_of(len(truth)),
    }


def _scores(truth: Tags, predicted: Tags, average: str | None) -> tuple[Any, Any, Any, Any]:
    return precision_recall_fscore_support(
        [list(tags) for tags in truth],
        [list(tags) for tags in predicted],
        average=average,
        scheme=IOB2,
        zero_division=ZERO,
    )


def _intervals(truth: Tags, predicted: Tags, types: Sequence[str], seed: int) -> dict[str, list[float]]:
    """95 % percentile bootstrap intervals (Efron 1979) over sentences.

    Sentences with the same counts are alike, so drawing n of them is a multinomial draw over the different ones.
    """
    if not truth:
        return {}
    # Of each sentence: hits, guessed and gold entities of every type, right words and words.
    places = {kind: index for index, kind in enumerate(types)}
    counts = np.zeros((len(truth), 3 * len(types) + 2))
    for row, (one, other) in enumerate(zip(truth, predicted, strict=True)):
        gold, guess = set(entities(one)), set(entities(other))
        for column, found in enumerate((gold & guess, guess, gold)):
            for kind, *_ in found:
                counts[row, column * len(types) + places[kind]] += 1
        counts[row, -2:] = sum(a == b for a, b in zip(one, other, strict=True)), len(one)
    alike, numbers = np.unique(counts, axis=0, return_counts=True)
    total = int(numbers.sum())
    generator = np.random.default_rng(seed)
    resamples = resamples_of(total)
    chunk = max(1, min(resamples, CELLS_PER_CHUNK // max(alike.shape)))
    sums: list[NDArray[np.float64]] = []
    for start in range(0, resamples, chunk):
        draws = generator.multinomial(total, numbers / total, size=min(chunk, resamples - start))
        sums.append(draws @ alike)
    drawn = np.concatenate(sums)
    hits, guessed, gold = np.split(drawn[:, :-2], 3, axis=1)
    of_types = divide(2 * hits, guessed + gold)
    hits_of_all, guessed_of_all, gold_of_all = (part.sum(axis=1) for part in (hits, guessed, gold))
    samples = {
        "f1": divide(2 * hits_of_all, guessed_of_all + gold_of_all),
        "precision": divide(hits_of_all, guessed_of_all),
        "recall": divide(hits_of_all, gold_of_all),
        "f1_macro": divide(of_types.sum(axis=1), (guessed + gold > 0).sum(axis=1)),
        "accuracy": divide(drawn[:, -2], drawn[:, -1]),
    }
    return {name: [float(bound) for bound in np.percentile(values, [2.5, 97.5])] for name, values in samples.items()}
