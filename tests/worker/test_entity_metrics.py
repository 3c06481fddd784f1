import random
from typing import Any

import numpy as np
import pytest
from seqeval.metrics import classification_report, f1_score, precision_score, recall_score
from seqeval.scheme import IOB2, Entities

from worker.training.entities import entities, entity_detail, entity_values

TYPES = ["LOC", "PER", "creative-work"]
TAGS = ["O", *(f"{prefix}-{kind}" for kind in TYPES for prefix in "BI")]


def sentences(seed: int, count: int = 200) -> tuple[list[list[str]], list[list[str]]]:
    """Random tags, illegal sequences among them, and a disturbed copy."""
    chance = random.Random(seed)
    truth = [[chance.choice(TAGS) for _ in range(chance.randint(1, 12))] for _ in range(count)]
    guess = [[tag if chance.random() < 0.7 else chance.choice(TAGS) for tag in tags] for tags in truth]
    return truth, guess


@pytest.mark.parametrize("seed", range(5))
def test_every_number_is_that_of_seqeval(seed: int) -> None:
    truth, guess = sentences(seed)
    strict: dict[str, Any] = {"mode": "strict", "scheme": IOB2, "zero_division": 0}
    report: Any = classification_report(truth, guess, output_dict=True, **strict)
    values = entity_values(truth, guess)
    assert values["f1"] == pytest.approx(f1_score(truth, guess, **strict), abs=1e-9)
    assert values["precision"] == pytest.approx(precision_score(truth, guess, **strict), abs=1e-9)
    assert values["recall"] == pytest.approx(recall_score(truth, guess, **strict), abs=1e-9)
    assert values["f1_macro"] == pytest.approx(report["macro avg"]["f1-score"], abs=1e-9)
    for row in entity_detail(truth, guess, TYPES, seed=1)["per_class"]:
        theirs = report[row["label"]]
        assert (row["precision"], row["recall"], row["f1"]) == pytest.approx(
            (theirs["precision"], theirs["recall"], theirs["f1-score"]), abs=1e-9
        )
        assert row["support"] == theirs["support"]


def test_entities_are_those_of_seqeval_in_strict_mode() -> None:
    truth, guess = sentences(7)
    for found, tags in zip(Entities(guess, IOB2).entities, guess, strict=True):
        assert [(entity.tag, entity.start, entity.end) for entity in found] == entities(tags)
    assert entities(truth[0]) == entities([*truth[0], "O"])


def test_values_equal_those_computed_by_hand() -> None:
    truth = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-LOC"]]
    guess = [["B-PER", "I-PER", "O", "O"], ["B-PER", "B-LOC"]]
    assert entity_values(truth, guess) == pytest.approx(
        {"f1": 2 / 3, "precision": 2 / 3, "recall": 2 / 3, "f1_macro": (2 / 3 + 2 / 3) / 2, "accuracy": 4 / 6}
    )


def test_nothing_to_find_and_nothing_found_is_no_division_by_zero() -> None:
    none = {"f1": 0.0, "precision": 0.0, "recall": 0.0, "f1_macro": 0.0}
    assert entity_values([["O"]], [["O"]]) == none | {"accuracy": 1.0}
    assert entity_values([[]], [[]]) == none | {"accuracy": 1.0}
    assert entity_values([["O"]], [["B-PER"]]) == none | {"accuracy": 0.0}
    detail = entity_detail([["O"]], [["O"]], ["PER"], seed=1)
    assert detail["per_class"] == [{"label": "PER", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}]
    assert detail["intervals"]["f1"] == [0.0, 0.0]


def test_intervals_are_those_of_resampled_sentences() -> None:
    truth, guess = sentences(3, 150)
    samples = np.random.default_rng(5).integers(0, len(truth), (90, len(truth)))
    found = [entity_values([truth[row] for row in rows], [guess[row] for row in rows]) for rows in samples]
    intervals = entity_detail(truth, guess, TYPES, seed=1)["intervals"]
    assert set(intervals) == set(found[0])
    for name, interval in intervals.items():
        assert interval == pytest.approx(np.percentile([values[name] for values in found], [2.5, 97.5]), abs=0.03)
    assert intervals == entity_detail(truth, guess, TYPES, seed=1)["intervals"]
