"""Texts that are read and texts that are to be written, as tokens, and the texts of tokens that a model wrote."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from worker.protocol import Log
from worker.training.data import TEXTS_PER_CALL, Examples, Ragged, Records

IGNORED = -100  # what padding is called in a target: it takes no part in the loss


@dataclass(frozen=True, kw_only=True)
class WrittenTexts(Examples):
    """One window a record. `long_sources` and `long_targets` say how many were cut off; `tokenizer` made the tokens."""

    tokenizer: PreTrainedTokenizerBase
    long_sources: int
    long_targets: int
    max_target_length: int


def encode_texts(
    sources: Sequence[str],
    targets: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    max_target_length: int,
) -> WrittenTexts:
    """Both texts of every record as Transformers' own call makes them, cut off at so many tokens.

    A target without an end-of-text token gets one: nothing else teaches a model to stop. A record weighs what its
    target has in tokens, so that the mean loss is that of a token.
    """
    cutting = deepcopy(tokenizer)  # a call that cuts off leaves that in what the tokenizer would be saved as
    ids, long_sources = _tokens(sources, cutting, max_length, "text")
    labels, long_targets = _tokens(targets, cutting, max_target_length, "text_target")
    return WrittenTexts(
        inputs={"input_ids": Ragged.of(ids, np.int32, cast(int, tokenizer.pad_token_id))},
        targets={"labels": Ragged.of(labels, np.int32, IGNORED)},
        weight=np.array([len(row) for row in labels], dtype=np.float32),
        record=np.arange(len(ids), dtype=np.int64),
        pad_left=tokenizer.padding_side == "left",
        tokenizer=tokenizer,
        long_sources=long_sources,
        long_targets=long_targets,
        max_target_length=max_target_length,
    )


def end_token(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The id of what ends a text: the end-of-sequence token, or BERT's separator."""
    return cast("int | None", tokenizer.sep_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id)


def _tokens(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, limit: int, argument: str
) -> tuple[list[NDArray[np.int32]], int]:
    end = end_token(tokenizer)
    rows: list[NDArray[np.int32]] = []
    long = 0
    for start in range(0, len(texts), TEXTS_PER_CALL):
        for text, ids in zip(
            texts[start : start + TEXTS_PER_CALL],
            _call(tokenizer, argument, texts[start : start + TEXTS_PER_CALL]),
            strict=True,
        ):
            row = ids
            if len(row) > limit:
                long += 1
                (row,) = _call(tokenizer, argument, [text], truncation=True, max_length=limit)
            if argument == "text_target" and end is not None and end not in row:
                row = [*row[: limit - 1], end]
            # A model needs one position to look at.
            rows.append(np.array(row or [tokenizer.pad_token_id if end is None else end], dtype=np.int32))
    return rows, long


def _call(tokenizer: PreTrainedTokenizerBase, argument: str, texts: Sequence[str], **settings: Any) -> list[list[int]]:
    return cast(Any, tokenizer)(**{argument: list(texts)}, verbose=False, **settings)["input_ids"]


def decode_texts(tokens: Sequence[NDArray[np.int32]], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The texts, without special tokens, as Transformers' `batch_decode` has them."""
    texts: list[str] = []
    for start in range(0, len(tokens), TEXTS_PER_CALL):
        some = [row.tolist() for row in tokens[start : start + TEXTS_PER_CALL]]
        texts += tokenizer.batch_decode(some, skip_special_tokens=True)
    return texts


def cut_off_log(records: Records, examples: WrittenTexts, max_length: int) -> Log | None:
    """What to tell of texts whose ends are not read or not learned; None if all fit."""
    rows, split = records.table.num_rows, records.split
    parts = [
        f"{count} of {rows} {split} {noun} are longer than {limit} tokens"
        for count, noun, limit in (
            (examples.long_sources, "texts", max_length),
            (examples.long_targets, "targets", examples.max_target_length),
        )
        if count
    ]
    if not parts:
        return None
    return Log(
        f"{', and '.join(parts)}: what is beyond is cut off. Ask for a higher max_length or max_target_length where "
        "the model has one, or give shorter texts.",
        level="warn",
        data={
            "code": "cut_off",
            "split": split,
            "texts": examples.long_sources,
            "targets": examples.long_targets,
            "max_length": max_length,
            "max_target_length": examples.max_target_length,
        },
    )
