"""Texts of which some characters are learned, as tokens that fit into the model's window."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding

from worker.training.data import Ragged

Cut = Literal["nothing", "context", "answer"]


@dataclass(frozen=True)
class Learned:
    """Tokens of a window, which of them are learned, how many begin every text, and what did not fit."""

    ids: NDArray[np.int32]
    learned: NDArray[np.bool_]
    opening: int = 0
    cut: Cut = "nothing"


def mark(encoding: Encoding, spans: Sequence[tuple[int, int]], begin: int | None, end: int | None) -> Learned:
    """The tokens of a text; those that hold a character of `spans` are learned, and `end` behind it where given.

    Special tokens that the tokenizer adds stay in front, and are left out behind.
    """
    ids = np.array(encoding.ids, dtype=np.int32)
    added = np.array(encoding.special_tokens_mask, dtype=np.bool_)
    offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    learned = np.zeros(len(ids), dtype=np.bool_)
    for first, last in spans:
        # A token without characters of its own, such as a space that was trimmed off, counts where it stands.
        learned |= (offsets[:, 0] < last) & (np.maximum(offsets[:, 1], offsets[:, 0] + 1) > first)
    learned &= ~added
    size = len(ids)
    while size and added[size - 1]:
        size -= 1
    ids, learned = ids[:size], learned[:size]
    if end is not None and not (size and ids[-1] == end):
        ids, learned = np.append(ids, np.int32(end)), np.append(learned, True)
    opening = int(len(ids) > 0 and bool(added[:1].any() or ids[0] == begin))
    return Learned(ids, learned, opening)


def fit(whole: Learned, max_length: int) -> Learned:
    """What fits into a window: the end of what comes before the answer, and the whole answer where that is possible.

    An answer that leaves less than a quarter of the window for what comes before it is cut at its end. A begin-of-text
    token is kept. At least one token to learn remains.
    """
    if len(whole.ids) <= max_length:
        return whole
    first = int(np.argmax(whole.learned))
    answer = len(whole.ids) - first
    context = max(min(first, max(1, max_length // 4)), max_length - answer)
    opening = min(whole.opening, first)
    kept = np.concatenate([np.arange(opening), np.arange(first - context + opening, first + answer)])[:max_length]
    cut: Cut = "answer" if context + answer > max_length else "context"
    return Learned(whole.ids[kept], whole.learned[kept], whole.opening, cut)


@dataclass(frozen=True)
class NextTokens:
    """Which tokens of a batch are to be told from those before them: the same ones in every epoch.

    `learned` says so of every token but a window's first, which has nothing before it.
    """

    learned: Ragged

    @property
    def redraws(self) -> bool:
        """A window is the same in every epoch."""
        return False

    @property
    def counts(self) -> NDArray[np.int64]:
        """Tokens to predict in each window."""
        return np.add.reduceat(self.learned.values.astype(np.int64), self.learned.offsets[:-1])

    def __call__(
        self, inputs: dict[str, NDArray[np.int64]], rows: NDArray[np.int64], epoch: int | None
    ) -> dict[str, NDArray[np.int64]]:
        """`place` of the token before each in the flattened batch, and the `token` itself, [places] each."""
        ids = inputs["input_ids"]
        width = ids.shape[1]
        row, column = np.nonzero(self.learned.matrix(rows, width, left=False))
        return {"place": row * width + column - 1, "token": ids[row, column]}
