"""ROUGE-1, -2, -L and -Lsum: rouge-score's own (Lin 2004), with tokenizers for other alphabets than the Latin one."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import rjieba
from nltk.tokenize.punkt import PunktSentenceTokenizer
from numpy.typing import NDArray
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer, Tokenizer

RougeTokenizer = Literal["english", "words", "characters"]

TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")
RESAMPLES = 1000
DRAWS_PER_CHUNK = 4_000_000
HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# Chinese, kana, Thai, Lao, Burmese, Khmer: scripts that put no spaces between words.
UNSPACED = re.compile(f"[{HAN}\u3040-\u30ff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
CHARACTERS = re.compile(rf"{UNSPACED.pattern}|(?:(?!{UNSPACED.pattern})\w)+")
WORDS = re.compile(rf"[{HAN}]+|(?:(?![{HAN}])\w)+")
LETTER = re.compile(r"[^\W\d_]")
FULL_STOPS = re.compile(r"(?<=[\u3002\uff01\uff1f])")  # of Chinese and Japanese
SENTENCES = PunktSentenceTokenizer()


class CharacterTokenizer(Tokenizer):
    """Every character of a script without spaces, and the words of all others, in lower case."""

    def tokenize(self, text: str) -> list[str]:
        """See rouge_score.tokenizers.Tokenizer."""
        return CHARACTERS.findall(text.lower())


class WordTokenizer(Tokenizer):
    """The words of any alphabet, in lower case; jieba tells those of Chinese apart."""

    def tokenize(self, text: str) -> list[str]:
        """See rouge_score.tokenizers.Tokenizer."""
        return list(self._words(text.lower()))

    def _words(self, text: str) -> Iterator[str]:
        for run in WORDS.findall(text):
            if UNSPACED.match(run):
                yield from rjieba.cut(run)
            else:
                yield run


@dataclass(frozen=True)
class SummaryScores:
    """Mean F-measures by name, between 0 and 1, and their intervals."""

    values: dict[str, float]
    intervals: dict[str, list[float]]


def tokenizer_for(summaries: Sequence[str]) -> RougeTokenizer:
    """The tokenizer for the script of most summaries."""
    letters = [character for text in summaries for character in LETTER.findall(text)]
    unspaced = sum(UNSPACED.match(letter) is not None for letter in letters)
    ascii_letters = sum(letter.isascii() for letter in letters)
    if 2 * unspaced > len(letters):
        return "characters"
    # German has 5 % of other letters, French 4 %; the library's own words would break at each of them.
    return "english" if ascii_letters >= 0.99 * len(letters) else "words"


def scorer(tokenizer: RougeTokenizer) -> RougeScorer:
    """The library's scorer with one of the tokenizers."""
    made: dict[RougeTokenizer, Any] = {
        "english": lambda: DefaultTokenizer(use_stemmer=True),
        "words": WordTokenizer,
        "characters": CharacterTokenizer,
    }
    return RougeScorer(list(TYPES), tokenizer=made[tokenizer]())


def sentence_lines(text: str) -> str:
    """A text with a sentence a line, as ROUGE-Lsum wants it; one that has lines keeps them."""
    if "\n" in text.strip():
        return text
    parts = [part for sentence in SENTENCES.tokenize(text) for part in FULL_STOPS.split(sentence)]
    return "\n".join(part for part in parts if part)


def summary_scores(
    predicted: Sequence[str], references: Sequence[Sequence[str]], tokenizer: RougeTokenizer, seed: int
) -> SummaryScores:
    """Means of `rouge_scores` and their intervals."""
    scores = rouge_scores(predicted, references, tokenizer)
    means = scores.mean(axis=0)
    bounds = _bounds(scores, seed)
    return SummaryScores(
        {name: float(means[index]) for index, name in enumerate(TYPES)},
        {name: [float(bound) for bound in bounds[:, index]] for index, name in enumerate(TYPES)},
    )


def rouge_scores(
    predicted: Sequence[str], references: Sequence[Sequence[str]], tokenizer: RougeTokenizer
) -> NDArray[np.float64]:
    """F-measures [summaries, TYPES] with the best of a summary's references, each type by itself (`score_multi`)."""
    rouge = scorer(tokenizer)
    rows: list[list[float]] = []
    for text, good in zip(predicted, references, strict=True):
        found = rouge.score_multi([sentence_lines(reference) for reference in good], sentence_lines(text))
        rows.append([float(found[name].fmeasure) for name in TYPES])
    return np.array(rows, dtype=np.float64)


def _bounds(scores: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """95 % percentile bootstrap intervals (Efron 1979) of the means of columns, [2, columns]."""
    rows = len(scores)
    generator = np.random.default_rng(seed)
    means: list[NDArray[np.float64]] = []
    chunk = max(1, min(RESAMPLES, DRAWS_PER_CHUNK // rows))
    for start in range(0, RESAMPLES, chunk):
        size = min(chunk, RESAMPLES - start)
        draws = generator.multinomial(rows, np.full(rows, 1 / rows), size=size)
        means.append(draws @ scores / rows)
    return np.percentile(np.concatenate(means), [2.5, 97.5], axis=0)
