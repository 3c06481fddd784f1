"""BLEU, chrF and TER: sacreBLEU's own (Post 2018), with its signatures and with bootstrap intervals."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER

from app.datasets.languages import primary

BleuTokenizer = Literal["13a", "intl", "zh", "char", "none"]

# Tokens of a text, on average. TER looks for parts to move, which took half a second for a text of 100 tokens in wrong
# order and grows with a power above the second. A corpus of longer texts is scored without it.
LONGEST_FOR_TER = 60
RESAMPLES = 1000
CELLS_PER_CHUNK = 4_000_000
HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
# Kana, and the letters of Thai, Lao, Burmese and Khmer: scripts without spaces that `zh` does not split.
UNSPACED = re.compile(r"[\u3040-\u30ff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
CHINESE = frozenset({"zh", "zho", "chi", "cmn", "yue", "lzh", "wuu", "nan"})
BY_CHARACTER = frozenset({"ja", "jpn", "th", "tha", "lo", "lao", "km", "khm", "my", "mya"})


@dataclass(frozen=True)
class CorpusScores:
    """Scores of a corpus by name, in sacreBLEU's units (100 is perfect BLEU), their intervals and signatures."""

    values: dict[str, float]
    intervals: dict[str, list[float]]
    signatures: dict[str, str]


def tokenizer_of(language: str | None, targets: Sequence[str]) -> BleuTokenizer:
    """The tokenizer for a language or, where its code is not known, for the script of most targets."""
    if language is not None:
        code = primary(language)
        return "zh" if code in CHINESE else "char" if code in BY_CHARACTER else "13a"
    unspaced = sum(UNSPACED.search(text) is not None for text in targets)
    chinese = sum(HAN.search(text) is not None for text in targets)
    if 2 * max(unspaced, chinese) <= len(targets):
        return "13a"
    return "char" if 2 * unspaced > chinese else "zh"


def corpus_scores(
    predicted: Sequence[str], references: Sequence[str], tokenizer: BleuTokenizer, seed: int
) -> CorpusScores:
    """Scores of translations against one reference each. TER splits characters where BLEU does; see LONGEST_FOR_TER."""
    values: dict[str, float] = {}
    intervals: dict[str, list[float]] = {}
    signatures: dict[str, str] = {}
    for name, (metric, statistics) in sentence_statistics(predicted, references, tokenizer).items():
        values[name] = float(metric._compute_score_from_stats(statistics.sum(axis=0).tolist()).score)
        intervals[name] = _interval(metric, statistics, seed)
        signatures[name] = str(metric.get_signature())
    return CorpusScores(values, intervals, signatures)


def sentence_statistics(
    predicted: Sequence[str], references: Sequence[str], tokenizer: BleuTokenizer
) -> dict[str, tuple[Any, NDArray[np.float64]]]:
    """Each metric with its statistics [sentences, columns]: what `corpus_score` adds up, and what is drawn anew."""
    by_character = tokenizer in ("zh", "char")
    metrics: dict[str, Any] = {"bleu": BLEU(tokenize=tokenizer, force=True), "chrf": CHRF()}
    tokens = sum(len(text if by_character else text.split()) for text in (*predicted, *references))
    if tokens <= LONGEST_FOR_TER * 2 * len(references):
        metrics["ter"] = TER(normalized=by_character, asian_support=by_character)
    return {
        name: (metric, np.array(metric._extract_corpus_statistics(predicted, [references]), dtype=np.float64))
        for name, metric in metrics.items()
    }


def _interval(metric: Any, statistics: NDArray[np.float64], seed: int) -> list[float]:
    """95 % percentile bootstrap interval (Koehn 2004): sentences are drawn with replacement, statistics add up."""
    sentences = len(statistics)
    generator = np.random.default_rng(seed)
    scores: list[float] = []
    chunk = max(1, min(RESAMPLES, CELLS_PER_CHUNK // sentences))
    for start in range(0, RESAMPLES, chunk):
        size = min(chunk, RESAMPLES - start)
        draws = generator.multinomial(sentences, np.full(sentences, 1 / sentences), size=size)
        scores += [float(metric._compute_score_from_stats(row).score) for row in (draws @ statistics).tolist()]
    return [float(bound) for bound in np.percentile(scores, [2.5, 97.5])]
