"""Pairs of texts, tokenised together."""

from collections.abc import Sequence

from tokenizers import Encoding, Tokenizer
from transformers import PreTrainedTokenizerBase

from worker.training.data import TEXTS_PER_CALL, WindowCollector, Windows, plain_tokenizer


def tokenize_pairs(
    texts: Sequence[str], pairs: Sequence[str | None], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Windows:
    """Both texts of a pair in windows of at most `max_length` tokens; a text without another stands alone.

    Where both do not fit, the shorter one keeps what it needs up to half of the window, and the other is cut into
    pieces that share a quarter. If both are cut, they are gone through side by side: every token is in some window, and
    a window has the parts that stand at the same place.
    """
    backend = plain_tokenizer(tokenizer)
    collector = WindowCollector(tokenizer)
    for start in range(0, len(texts), TEXTS_PER_CALL):
        some = slice(start, start + TEXTS_PER_CALL)
        encoded = backend.encode_batch_fast(list(texts[some]), add_special_tokens=False)
        others = backend.encode_batch_fast([pair or "" for pair in pairs[some]], add_special_tokens=False)
        for one, other, pair in zip(encoded, others, pairs[some], strict=True):
            collector.add(_windows(backend, one, None if pair is None else other, max_length))
    return collector.build()


def _windows(backend: Tokenizer, one: Encoding, other: Encoding | None, max_length: int) -> list[Encoding]:
    room = max_length - backend.num_special_tokens_to_add(other is not None)
    if other is None:
        return [backend.post_process(piece) for piece in _pieces(one, room)]
    if len(one) + len(other) <= room:
        return [backend.post_process(one, other)]
    half = room // 2
    for_one = room - len(other) if len(other) <= half else min(len(one), half)
    pieces, others = _pieces(one, for_one), _pieces(other, room - for_one)
    count = max(len(pieces), len(others))
    return [
        backend.post_process(pieces[index * len(pieces) // count], others[index * len(others) // count])
        for index in range(count)
    ]


def _pieces(text: Encoding, room: int) -> list[Encoding]:
    """The text in pieces of at most `room` tokens, each sharing a quarter with the one before."""
    text.truncate(room, stride=room // 4)
    return [text, *text.overflowing]
