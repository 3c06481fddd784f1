"""Which tokens of a text are masked: other ones in each epoch, and always the same ones in evaluation.

What is drawn is a function of seed, epoch and window, so that nothing has to be saved for a run to go on exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding

from worker.training.blocks import Tokens
from worker.training.data import Ragged

MASKED, REPLACED = 0.8, 0.1  # Devlin et al. 2019; the rest stay as they are
EVALUATION = (0, 0)  # the key of evaluation, which no seed changes: numbers of different jobs can be compared
NEVER = -1
# Scripts without spaces between words: kana, Han, Hangul is left out since it has spaces.
CHARACTER_RANGES = ((0x3040, 0x30FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))


@dataclass(frozen=True)
class Masking:
    """Draws the tokens of a batch that are to be predicted.

    `units` number what is masked together in each window, -1 for tokens that never are. `counts` is how many tokens of
    a window are predicted, as near as whole units allow; `vocabulary` how many tokens a replacement is drawn from.
    """

    units: Ragged
    counts: NDArray[np.int64]
    mask_token: int
    vocabulary: int
    seed: int

    @property
    def redraws(self) -> bool:
        """Every epoch has other masks."""
        return True

    def __call__(
        self, inputs: dict[str, NDArray[Any]], rows: NDArray[np.int64], epoch: int | None
    ) -> dict[str, NDArray[Any]]:
        """`place` in the flattened batch, `token` and `share` in the loss of all tokens to predict, [places] each."""
        ids = inputs["input_ids"]
        width = ids.shape[1]
        places: list[NDArray[np.int64]] = []
        shares: list[NDArray[np.float32]] = []
        original = ids.copy()
        key = EVALUATION if epoch is None else (self.seed, epoch + 1)
        for index, row in enumerate(rows.tolist()):
            # Counter-based (Salmon et al. 2011): a stream of its own for every window, made in microseconds.
            generator = np.random.Generator(np.random.Philox(key=key, counter=(0, 0, 0, row)))
            chosen = choose(self.units.row(row), int(self.counts[row]), generator)
            lot = generator.random(len(chosen))
            other = generator.integers(0, self.vocabulary, len(chosen))
            masked = np.where(lot < MASKED + REPLACED, other, ids[index, chosen])
            ids[index, chosen] = np.where(lot < MASKED, self.mask_token, masked)
            places.append(index * width + chosen)
            # A window weighs as much as the tokens it was to have: whole words may be a token more or less.
            shares.append(np.full(len(chosen), self.counts[row] / len(chosen), dtype=np.float32))
        place = np.concatenate(places)
        return {"place": place, "token": original.reshape(-1)[place], "share": np.concatenate(shares)}


def choose(units: NDArray[Any], count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Positions of random whole units, at least one, that come as near to `count` tokens as they are likely to."""
    sizes = np.bincount(units[units >= 0])
    order = generator.permutation(len(sizes))
    ends = np.cumsum(sizes[order])
    # A unit that would go beyond is taken if its middle does not: no more nor less than `count` on average.
    taken = order[ends - sizes[order] / 2 <= count]
    return np.flatnonzero(np.isin(units, taken if len(taken) else order[:1]))


def predicted_tokens(units: Ragged, share: float) -> NDArray[np.int64]:
    """How many tokens of each window are predicted: the share of those that may be, at least one (BERT's own rule).

    There is at least one window, and at least one token in each.
    """
    maskable = np.add.reduceat((units.values >= 0).astype(np.int64), units.offsets[:-1])
    return np.maximum(1, np.rint(share * maskable)).astype(np.int64)


def token_units(ids: Tokens, special: NDArray[np.bool_]) -> Tokens:
    """Every token by itself; `special` [vocabulary] says which never are masked."""
    return np.where(special[ids], NEVER, np.arange(len(ids))).astype(np.int32)


def word_units(text: str, encoding: Encoding, special: NDArray[np.bool_]) -> Tokens:
    """Tokens of a word together, by the tokenizer's own words; characters of scripts without spaces one by one."""
    numbers: list[int] = []
    before: tuple[int | None, int] | None = None
    unit = -1
    for token, word, (start, _) in zip(encoding.ids, encoding.word_ids, encoding.offsets, strict=True):
        if special[token] or word is None:
            numbers.append(NEVER)
            before = None
            continue
        # A character of several tokens (bytes) is one unit as well: they share their offset.
        now = (word, start if _stands_alone(text, start) else -1)
        unit += now != before
        numbers.append(unit)
        before = now
    return np.array(numbers, dtype=np.int32)


def renumbered(units: Sequence[int] | NDArray[Any]) -> Tokens:
    """Units of a block from 0 on, in their order."""
    units = np.asarray(units)
    found = units >= 0
    numbers = np.full(len(units), NEVER, dtype=np.int32)
    if found.any():
        numbers[found] = np.unique(units[found], return_inverse=True)[1]
    return numbers


def _stands_alone(text: str, at: int) -> bool:
    code = ord(text[at]) if at < len(text) else 0
    return any(low <= code <= high for low, high in CHARACTER_RANGES)
