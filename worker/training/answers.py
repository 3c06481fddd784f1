"""How answers are compared with gold answers: SQuAD's definition, CMRC's for Chinese, and the threshold for none.

SQuAD: Rajpurkar et al. 2016 (v1.1) and 2018 (v2.0). CMRC 2018: Cui et al. 2019.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

import numpy as np
from nltk.tokenize import NLTKWordTokenizer
from numpy.typing import NDArray

from worker.training.metrics import resamples_of

Normalization = Literal["squad", "cmrc"]

PUNCTUATION = str.maketrans("", "", string.punctuation)
ARTICLES = re.compile(r"\b(a|an|the)\b")
CHINESE = re.compile(r"[\u4e00-\u9fa5]")
# CMRC's own list. It names the ellipsis as two characters, which a comparison character by character never meets.
CMRC_PUNCTUATION = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")  # noqa: RUF001
WORDS = NLTKWordTokenizer()
DRAWS_PER_CHUNK = 4_000_000


@dataclass(frozen=True)
class Comparison:
    """Exact match and F1 of every question, [questions] each, and which questions have an answer."""

    exact: NDArray[np.float64]
    f1: NDArray[np.float64]
    has_answer: NDArray[np.bool_]


def compare(predicted: Sequence[str], gold: Sequence[Sequence[str]], normalization: Normalization) -> Comparison:
    """Every prediction with all gold answers of its question; the best counts. No gold answer: "" is right.

    Where every question has an answer this is SQuAD v1.1, else v2.0. They differ in gold answers that are nothing but
    articles and punctuation.
    """
    answerable = all(gold)
    pairs = [_scores(text, texts, normalization, answerable) for text, texts in zip(predicted, gold, strict=True)]
    has_answer = [answerable or any(_normalised(text, normalization) for text in texts) for texts in gold]
    return Comparison(
        np.array([exact for exact, _ in pairs], dtype=np.float64),
        np.array([f1 for _, f1 in pairs], dtype=np.float64),
        np.array(has_answer, dtype=np.bool_),
    )


def answer_values(found: Comparison) -> dict[str, float]:
    """Means over all questions and, where some have no answer and others do, over either kind."""
    values = {"exact_match": float(found.exact.mean()), "f1": float(found.f1.mean())}
    if found.has_answer.all() or not found.has_answer.any():
        return values
    for name, those in (("has_answer", found.has_answer), ("no_answer", ~found.has_answer)):
        values |= {f"{name}_exact_match": float(found.exact[those].mean()), f"{name}_f1": float(found.f1[those].mean())}
    return values


def bootstrap_intervals(found: Comparison, seed: int) -> dict[str, list[float]]:
    """95 % percentile bootstrap intervals (Efron 1979) of the means, questions drawn with replacement."""
    generator = np.random.default_rng(seed)
    questions = len(found.f1)
    both = np.stack([found.exact, found.f1])
    means: list[NDArray[np.float64]] = []
    resamples = resamples_of(questions)
    chunk = max(1, min(resamples, DRAWS_PER_CHUNK // questions))
    for start in range(0, resamples, chunk):
        draws = generator.integers(0, questions, (min(chunk, resamples - start), questions))
        means.append(both[:, draws].mean(axis=2))
    bounds = np.percentile(np.concatenate(means, axis=1), [2.5, 97.5], axis=1)
    return {name: [float(bound) for bound in bounds[:, row]] for row, name in enumerate(("exact_match", "f1"))}


def best_threshold(differences: NDArray[np.float64], f1: NDArray[np.float64], has_answer: NDArray[np.bool_]) -> float:
    """The threshold on (score of no answer - score of the best answer) that gives the highest mean F1.

    `f1` is that of the best answers, whether they would be given or not. A question is left unanswered where its
    difference exceeds the threshold. Of thresholds that do the same the one in the middle is taken: it is the furthest
    from what it tells apart.
    """
    order = np.argsort(differences, kind="stable")
    ordered = differences[order]
    gains = np.where(has_answer, f1, -1.0 + f1)[order]  # of answering instead of leaving unanswered
    totals = np.concatenate([[0.0], np.cumsum(gains)])  # totals[k]: the first k are answered
    finite = ordered[np.isfinite(ordered)]  # the others have no answer to give
    if not len(finite):
        return 0.0
    # Equal differences go together.
    allowed = np.concatenate([[True], finite[1:] > finite[:-1], [True]])
    answered = int(np.argmax(np.where(allowed, totals[: len(finite) + 1], -np.inf)))
    if answered == 0:
        return float(finite[0]) - 1.0
    if answered == len(finite):
        return float(finite[-1]) + 1.0
    return float((finite[answered - 1] + finite[answered]) / 2)


def prevailing(gold: Sequence[Sequence[str]]) -> Normalization:
    """`cmrc` where most of the answers hold Chinese characters."""
    texts = [text for texts in gold for text in texts]
    chinese = sum(CHINESE.search(text) is not None for text in texts)
    return "cmrc" if 2 * chinese > len(texts) else "squad"


def _scores(predicted: str, gold: Sequence[str], normalization: Normalization, answerable: bool) -> tuple[float, float]:
    if not answerable:
        gold = [text for text in gold if _normalised(text, normalization)] or [""]
    exact = max(float(_normalised(predicted, normalization) == _normalised(text, normalization)) for text in gold)
    guess = _tokens(predicted, normalization)
    return exact, max(_f1(guess, _tokens(text, normalization), normalization, answerable) for text in gold)


def _f1(guess: list[str], gold: list[str], normalization: Normalization, answerable: bool) -> float:
    if not guess or not gold:
        return 0.0 if answerable else float(guess == gold)
    if normalization == "squad":
        common = (Counter(guess) & Counter(gold)).total()
    else:  # the longest common substring, not the common bag
        common = SequenceMatcher(None, guess, gold, autojunk=False).find_longest_match().size
    if common == 0:
        return 0.0
    precision, recall = common / len(guess), common / len(gold)
    return 2 * precision * recall / (precision + recall)


def _normalised(text: str, normalization: Normalization) -> str:
    if normalization == "squad":
        return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())
    return "".join(character for character in text.lower().strip() if character not in CMRC_PUNCTUATION)


def _tokens(text: str, normalization: Normalization) -> list[str]:
    """Words; for Chinese its characters, and the words of what stands between them."""
    plain = _normalised(text, normalization)
    if normalization == "squad":
        return plain.split()
    tokens: list[str] = []
    end = 0
    for match in CHINESE.finditer(plain):
        tokens += [*WORDS.tokenize(plain[end : match.start()]), match[0]]
        end = match.end()
    return tokens + WORDS.tokenize(plain[end:])
