"""Texts as blocks of tokens for language models: one behind the other, or each text by itself. Nothing is cut off."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer
from transformers import PreTrainedTokenizerBase

from worker.training.data import TEXTS_PER_CALL, Ragged, plain_tokenizer

Tokens = NDArray[np.int32]


@dataclass(frozen=True)
class Blocks:
    """`ids` of each block; `marks` is a number beside each token, of whatever meaning; `record` its first text."""

    ids: Ragged
    marks: Ragged
    record: NDArray[np.int64]


@dataclass(frozen=True)
class Frame:
    """What a tokenizer puts before and behind a text, and between two texts that are read together."""

    prefix: Tokens
    suffix: Tokens
    separator: Tokens

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> "Frame":
        """Found by looking at a text of one letter."""
        encoded = plain_tokenizer(tokenizer).encode("a")
        special = encoded.special_tokens_mask
        first = special.index(0) if 0 in special else (len(special) + 1) // 2
        last = len(special) - special[::-1].index(0) if 0 in special else first
        between = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
        return cls(
            np.array(encoded.ids[:first], dtype=np.int32),
            np.array(encoded.ids[last:], dtype=np.int32),
            np.array([] if between is None else [between], dtype=np.int32),
        )


def encode_all(
    texts: Sequence[str], tokenizer: Tokenizer, *, special: bool, offsets: bool = True
) -> Iterator[tuple[str, Encoding]]:
    """Every text and what the tokenizer makes of it, some thousand at a time. `offsets` cost time."""
    encode = tokenizer.encode_batch if offsets else tokenizer.encode_batch_fast
    for start in range(0, len(texts), TEXTS_PER_CALL):
        part = list(texts[start : start + TEXTS_PER_CALL])
        yield from zip(part, encode(part, add_special_tokens=special), strict=True)


def cut(
    pieces: Sequence[tuple[Tokens, Tokens]], room: int, *, packing: bool, overlap: int = 0
) -> Iterator[tuple[Tokens, Tokens, int]]:
    """Tokens and marks of every block of at most `room` tokens, and the text that it begins in.

    Consecutive blocks share `overlap` tokens. With `packing` the texts are one stream.
    """
    lengths = np.array([len(ids) for ids, _ in pieces], dtype=np.int64)
    if packing and len(pieces):
        streams = [tuple(np.concatenate(part) for part in zip(*pieces, strict=True))]
    else:
        streams = list(pieces)
    ends = np.cumsum(lengths)
    for number, (ids, marks) in enumerate(streams):
        for start in range(0, max(1, len(ids) - overlap), room - overlap):
            record = int(np.searchsorted(ends, start, side="right")) if packing else number
            yield ids[start : start + room], marks[start : start + room], min(record, len(lengths) - 1)


def build(blocks: Iterator[tuple[Tokens, Tokens, int]], pad: int, keep: Callable[[Tokens, Tokens], bool]) -> Blocks:
    """Those blocks that are worth keeping, as flat arrays."""
    kept = [block for block in blocks if keep(block[0], block[1])]
    return Blocks(
        Ragged.of([ids for ids, _, _ in kept], np.int32, pad),
        Ragged.of([marks for _, marks, _ in kept], np.int32, -1),
        np.array([record for _, _, record in kept], dtype=np.int64),
    )
