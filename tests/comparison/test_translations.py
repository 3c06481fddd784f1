"""BLEU and chrF from sums of statistics are sacreBLEU's own, whatever was drawn."""

import random

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from app.comparison.forms import SUMS

WORDS = ["the", "river", "rises", "in", "northern", "hills", "and", "meets", "sea", "at", "old", "harbour"]
METRICS = {"bleu": BLEU(force=True), "chrf": CHRF()}


def texts(seed: int, words: int) -> tuple[list[str], list[str]]:
    generator = random.Random(seed)
    references = [" ".join(generator.choices(WORDS, k=generator.randint(1, words))) for _ in range(30)]
    keep = [generator.random() for _ in references]
    kept = [
        " ".join(word for word in text.split() if generator.random() < share)
        for text, share in zip(references, keep, strict=True)
    ]
    return kept, references


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize(
    ("predicted", "references"),
    [
        texts(1, 20),
        texts(2, 4),
        texts(3, 2),
        (["the river"], ["the river"]),
        (["", ""], ["the river", "a"]),
        (["xyz qqq"], ["the river rises"]),
        (["the the the the"], ["the river rises in"]),
        (["the river rises in the hills and more"], ["the river"]),
    ],
)
def test_it_is_the_librarys_score(name: str, predicted: list[str], references: list[str]) -> None:
    metric = METRICS[name]
    statistics = np.array(metric._extract_corpus_statistics(predicted, [references]), dtype=np.float64)
    generator = np.random.default_rng(1)
    weights = np.concatenate(
        [
            np.ones((1, len(predicted))),
            generator.multinomial(len(predicted), np.full(len(predicted), 1 / len(predicted)), 20),
        ]
    )
    found = SUMS[name](weights @ statistics, len(predicted))
    expected = [metric._compute_score_from_stats(row.tolist()).score for row in weights @ statistics]
    assert found == pytest.approx(expected, abs=1e-9)
    assert found[0] == pytest.approx(metric.corpus_score(predicted, [references]).score, abs=1e-9)
