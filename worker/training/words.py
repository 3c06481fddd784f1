"""Sentences split into words, as windows of pieces: every word stands for itself by its first piece."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer
from transformers import PreTrainedTokenizerBase

from worker.heads.modeling_crf import STRIDE, first_pieces, owned_words, with_placeholders
from worker.training.data import TEXTS_PER_CALL, Examples, Ragged, WindowCollector, windowing_tokenizer


def encode_words(
    sentences: Sequence[Sequence[str]],
    tags: Sequence[Sequence[int]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> Examples:
    """Windows of at most `max_length` pieces. Targets are ragged, a number for each word that begins in the window.

    `place`: where its first piece stands; `tag`: its id; `word`: its number in the sentence, or -1 in a window that
    does not answer for it. A word that the tokenizer maps to nothing is represented by a placeholder, and a sentence
    without words has a window with one word, tagged 0, that nobody answers for. A window weighs as much as the words it
    answers for.
    """
    backend = windowing_tokenizer(tokenizer, max_length, max_length // STRIDE)
    left = tokenizer.padding_side == "left"
    collector = WindowCollector(tokenizer)
    places: list[list[int]] = []
    words: list[list[int]] = []
    labels: list[list[int]] = []
    weights: list[float] = []
    for start in range(0, len(sentences), TEXTS_PER_CALL):
        chunk = sentences[start : start + TEXTS_PER_CALL]
        for sentence, ids, windows in zip(chunk, tags[start:], _encode(chunk, backend, tokenizer), strict=False):
            found = first_pieces([window.word_ids for window in windows])
            owned = [dict(window) for window in owned_words(found, [len(window) for window in windows])]
            kept = [number for number, window in enumerate(found) if window]
            collector.add([windows[number] for number in kept])
            for number in kept:
                places.append([place for _, place in found[number]])
                words.append([word if sentence and word in owned[number] else -1 for word, _ in found[number]])
                labels.append([ids[word] if sentence else 0 for word, _ in found[number]])
                weights.append(max(1, len(owned[number])))
    windows = collector.build()
    return Examples(
        inputs=windows.inputs,
        targets={
            "place": Ragged.of(places, np.int32, -1),
            "tag": Ragged.of(labels, np.int32, 0),
            "word": Ragged.of(words, np.int32, -1),
        },
        weight=np.array(weights, dtype=np.float32),
        record=windows.record,
        pad_left=left,
    )


def _encode(
    sentences: Sequence[Sequence[str]], backend: Tokenizer, tokenizer: PreTrainedTokenizerBase
) -> list[list[Encoding]]:
    """The windows of every sentence, each word in them at least once."""
    whole = [list(words) if words else with_placeholders([""], {0}, tokenizer) for words in sentences]
    encoded = [_windows(encoding) for encoding in backend.encode_batch(whole, is_pretokenized=True)]
    for index, windows in enumerate(encoded):
        missing = set(range(len(whole[index]))).difference(*(window.word_ids for window in windows))
        if missing:
            replaced = with_placeholders(whole[index], missing, tokenizer)
            encoded[index] = _windows(backend.encode(replaced, is_pretokenized=True))
    return encoded


def _windows(encoding: Encoding) -> list[Encoding]:
    return [encoding, *encoding.overflowing]


def stitch(
    windows: Sequence[NDArray[np.float32]], examples: Examples, lengths: Sequence[int]
) -> list[NDArray[np.float32]]:
    """What windows say of their words, put together to sentences of `lengths` words: [words, labels] each."""
    word = examples.ragged("word")
    sentences = [np.empty((length, windows[0].shape[1]), dtype=np.float32) for length in lengths]
    for index, values in enumerate(windows):
        row = word.row(index)
        answered = row >= 0
        sentences[examples.record[index]][row[answered]] = values[answered]
    return sentences
