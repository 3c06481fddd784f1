"""How well a tokenizer knows texts: into how many tokens it cuts their words, and what it has no token for."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from worker.domain_report.corpora import Corpus
from worker.domain_report.words import unit_pattern
from worker.training.data import TEXTS_PER_CALL, plain_tokenizer

TEXTS, CHARACTERS = 5_000, 2_000_000  # of each corpus; the standard error of a share is below 0.7 points
MANY_PIECES = 4

Unit = Literal["word", "character", "word or character"]


@dataclass(frozen=True)
class TokenizerUse:
    """What a tokenizer makes of a corpus of `texts`, of which `measured` were looked at.

    `fertility`: tokens a `unit`, special tokens left out (Rust et al. 2021). A unit is a word or a sign and, in scripts
    without spaces, such as Chinese and Japanese, a character. `unknown_share`: of the tokens; None for a tokenizer
    without an unknown token, which spells out what it does not know. `split_share`: of the words that are cut into
    MANY_PIECES tokens or more; None without words. `beyond_window_share`: of the texts.
    """

    name: str
    target: bool
    texts: int
    measured: int
    unit: Unit
    units: int
    tokens: int
    fertility: float | None
    unknown_share: float | None
    split_share: float | None
    beyond_window_share: float


def measure(corpus: Corpus, tokenizer: PreTrainedTokenizerBase, max_length: int, seed: int) -> TokenizerUse | None:
    """The tokenizer's use on a sample of the corpus; None for a corpus without any text."""
    texts = corpus.sample(TEXTS, CHARACTERS, seed)
    if not texts:
        return None
    tokenized = _fast if getattr(tokenizer, "is_fast", False) else _slow
    special = int(tokenizer.num_special_tokens_to_add())
    units, characters, words, split, tokens, unknown, beyond = 0, 0, 0, 0, 0, 0, 0
    for text, (ids, pieces) in zip(texts, tokenized(texts, tokenizer), strict=True):
        for found in unit_pattern().finditer(text):
            units += 1
            characters += found[2] is not None
        words += len(pieces)
        split += int((pieces >= MANY_PIECES).sum())
        tokens += len(ids)
        unknown += int((ids == tokenizer.unk_token_id).sum())
        beyond += len(ids) + special > max_length
    return TokenizerUse(
        name=corpus.name,
        target=corpus.target,
        texts=len(corpus.texts),
        measured=len(texts),
        unit="word" if characters == 0 else "character" if characters > units / 2 else "word or character",
        units=units,
        tokens=tokens,
        fertility=tokens / units if units else None,
        unknown_share=None if tokenizer.unk_token_id is None else unknown / max(1, tokens),
        split_share=split / words if words else None,
        beyond_window_share=beyond / len(texts),
    )


Tokenized = Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]  # ids of a text, and the tokens of each of its words


def _fast(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> Tokenized:
    """A token belongs to the word that its last character stands in: what comes before may be a space."""
    backend = plain_tokenizer(tokenizer)
    for start in range(0, len(texts), TEXTS_PER_CALL):
        chunk = texts[start : start + TEXTS_PER_CALL]
        for text, encoding in zip(chunk, backend.encode_batch(list(chunk), add_special_tokens=False), strict=True):
            spans = [found.span() for found in unit_pattern().finditer(text) if found[1]]
            begins, ends = np.array(spans, dtype=np.int64).reshape(-1, 2).T
            last = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)[:, 1] - 1
            word = np.searchsorted(begins, last, side="right") - 1
            inside = (word >= 0) & (last < ends[word]) if len(ends) else np.zeros(len(last), dtype=bool)
            yield np.array(encoding.ids, dtype=np.int64), np.bincount(word[inside], minlength=len(spans))


def _slow(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> Tokenized:
    """Without offsets each word is cut by itself; SentencePiece puts the space before it that it has in a text."""
    call: Any = tokenizer
    known: Counter[str] = Counter()
    for text in texts:
        ids = call(text, add_special_tokens=False, verbose=False)["input_ids"]
        words = [found[0] for found in unit_pattern().finditer(text) if found[1]]
        for word in set(words) - known.keys():
            known[word] = len(call(word, add_special_tokens=False, verbose=False)["input_ids"])
        yield np.array(ids, dtype=np.int64), np.array([known[word] for word in words], dtype=np.int64)
