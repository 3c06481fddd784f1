"""What an evaluation tells of every sentence, and what its comparisons draw from."""

from collections.abc import Sequence

import numpy as np

from app.catalog.measures import Measure
from worker.training.entities import entities
from worker.training.outcomes import Outcomes, calibrate

MEASURES = (
    Measure(name="f1", form="f1", columns=("hits", "guessed", "gold")),
    Measure(name="precision", form="ratio", columns=("hits", "guessed")),
    Measure(name="recall", form="ratio", columns=("hits", "gold")),
    Measure(name="accuracy", form="ratio", columns=("right_words", "words")),
)


def tag_outcomes(
    truth: Sequence[list[str]], predicted: Sequence[list[str]], confidences: Sequence[list[float]]
) -> Outcomes:
    """`confidences` are those of the words' tags; a sentence's `confidence` is the lowest of them."""
    sentences = list(zip(truth, predicted, confidences, strict=True))
    rows = [
        {
            "target": gold,
            "prediction": guess,
            "correct": gold == guess,
            "confidence": min(of_words, default=None),
            "confidences": of_words,
        }
        for gold, guess, of_words in sentences
    ]
    pairs = [(set(entities(gold)), set(entities(guess))) for gold, guess, _ in sentences]
    right = [
        np.array([a == b for a, b in zip(gold, guess, strict=True)], dtype=np.bool_) for gold, guess, _ in sentences
    ]
    statistics = {
        "hits": np.array([len(gold & guess) for gold, guess in pairs]),
        "guessed": np.array([len(guess) for _, guess in pairs]),
        "gold": np.array([len(gold) for gold, _ in pairs]),
        "right_words": np.array([of_words.sum() for of_words in right]),
        "words": np.array([len(gold) for gold in truth]),
        "right": np.array([gold == guess for gold, guess, _ in sentences]),
    }
    certain = np.array([value for of_words in confidences for value in of_words], dtype=np.float64)
    calibration = calibrate(certain, np.concatenate(right), "tags of words")
    return Outcomes(rows, statistics, MEASURES, gold=("gold", "words"), right="right", calibration=calibration)
