"""Questions with their contexts as windows of tokens, and the spans of a context that scores of tokens speak for."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer
from transformers import PreTrainedTokenizerBase

from worker.training.data import TEXTS_PER_CALL, Examples, Ragged, WindowCollector


@dataclass(frozen=True)
class Question:
    """What is asked of which context. `answer` is where the first gold answer stands in it, None where there is none.

    Offsets are in code points, the end excluded.
    """

    text: str
    context: str
    answer: tuple[int, int] | None


@dataclass(frozen=True)
class WindowSpans:
    """The best spans of one window, the best first: their offsets in the context and their scores.

    `null` is the score of no answer, `loss` the window's.
    """

    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    score: NDArray[np.float32]
    null: float
    loss: float


def encode_questions(
    questions: Sequence[Question], tokenizer: PreTrainedTokenizerBase, max_length: int, doc_stride: int
) -> Examples:
    """Windows of the whole question and a part of its context, sharing `doc_stride` tokens; each counts the same.

    A question keeps at most half of a window, and windows share at most half of what it leaves. Targets: tokens of the
    answer (`start`, `end`, the null token where the window does not hold it whole), `null`, the tokens of the context
    (`context`: first, number), and for each of these its `begin` and `stop` in the context, equal where no answer can
    begin or end with it.
    """
    collector = WindowCollector(tokenizer)
    places: list[_Places] = []
    class_token = cast("int | None", tokenizer.cls_token_id)
    for start in range(0, len(questions), TEXTS_PER_CALL):
        chunk = questions[start : start + TEXTS_PER_CALL]
        for question, windows in zip(chunk, _windows(chunk, tokenizer, max_length, doc_stride), strict=True):
            collector.add(windows)
            last = len(windows) - 1
            places += [
                _place(question, window, class_token, is_first=index == 0, is_last=index == last)
                for index, window in enumerate(windows)
            ]
    windows = collector.build()
    return Examples(
        inputs=windows.inputs,
        targets={
            "start": np.array([place.start for place in places], dtype=np.int64),
            "end": np.array([place.end for place in places], dtype=np.int64),
            "null": np.array([place.null for place in places], dtype=np.int64),
            "context": np.array([place.context for place in places], dtype=np.int64).reshape(-1, 2),
            "begin": Ragged.of([place.begins for place in places], np.int32, 0),
            "stop": Ragged.of([place.stops for place in places], np.int32, 0),
        },
        weight=np.ones(len(places), dtype=np.float32),
        record=windows.record,
        pad_left=tokenizer.padding_side == "left",
    )


def longest_question(max_length: int, special_tokens: int) -> int:
    """Tokens of a question that a window holds."""
    return max(1, (max_length - special_tokens) // 2)


def count_tokens(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens of each text, without special ones."""
    backend = cast(Tokenizer, tokenizer.backend_tokenizer)
    return [len(encoding) for encoding in backend.encode_batch_fast(list(texts), add_special_tokens=False)]


def _windows(
    questions: Sequence[Question], tokenizer: PreTrainedTokenizerBase, max_length: int, doc_stride: int
) -> list[list[Encoding]]:
    backend = Tokenizer.from_str(cast(Tokenizer, tokenizer.backend_tokenizer).to_str())
    special_tokens = backend.num_special_tokens_to_add(is_pair=True)
    longest = longest_question(max_length, special_tokens)
    texts = [question.text for question in questions]
    groups: dict[int, list[int]] = {}
    for index, encoding in enumerate(backend.encode_batch(texts, add_special_tokens=False)):
        while len(encoding) > longest:
            texts[index] = texts[index][: encoding.offsets[longest - 1][1]]
            encoding = backend.encode(texts[index], add_special_tokens=False)
        room = max_length - special_tokens - len(encoding)
        groups.setdefault(min(doc_stride, room // 2), []).append(index)
    found: dict[int, list[Encoding]] = {}
    for stride, members in groups.items():
        backend.enable_truncation(max_length, stride=stride, strategy="only_second")
        pairs = [(texts[index], questions[index].context) for index in members]
        for index, encoding in zip(members, backend.encode_batch(pairs), strict=True):
            found[index] = [encoding, *encoding.overflowing]
    return [found[index] for index in range(len(questions))]


@dataclass(frozen=True)
class _Places:
    start: int
    end: int
    null: int
    context: tuple[int, int]
    begins: list[int]
    stops: list[int]


def _place(question: Question, window: Encoding, class_token: int | None, *, is_first: bool, is_last: bool) -> _Places:
    parts = window.sequence_ids
    # The special token that stands for the whole, and no text that looks like it; the last token saw all the others.
    null = next(
        (index for index, key in enumerate(zip(parts, window.ids, strict=True)) if key == (None, class_token)),
        max(0, len(parts) - 1),
    )
    count = parts.count(1)
    if count == 0:
        return _Places(null, null, null, (0, 0), [], [])
    first = parts.index(1)
    begins, stops = _trimmed(question.context, window.offsets[first : first + count])
    edges = (0 if is_first else begins[0], len(question.context) if is_last else stops[-1])
    answer = None if question.answer is None else _tokens_of(question.answer, edges, begins, stops)
    start, end = (null, null) if answer is None else (first + answer[0], first + answer[1])
    return _Places(start, end, null, (first, count), begins, stops)


def _trimmed(context: str, offsets: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Offsets without white space around them, and with the marks that belong to their last character."""
    begins: list[int] = []
    stops: list[int] = []
    for begin, stop in offsets:
        while begin < stop and context[begin].isspace():
            begin += 1
        while begin < stop and context[stop - 1].isspace():
            stop -= 1
        while begin < stop < len(context) and unicodedata.category(context[stop])[0] == "M":
            stop += 1
        begins.append(begin)
        stops.append(stop)
    return begins, stops


def _tokens_of(
    answer: tuple[int, int], edges: tuple[int, int], begins: Sequence[int], stops: Sequence[int]
) -> tuple[int, int] | None:
    """First and last token of an answer; None where it does not stand whole between the window's edges.

    An answer that the tokenizer maps to nothing, such as a control character, takes the token behind it.
    """
    solid = [index for index, (begin, stop) in enumerate(zip(begins, stops, strict=True)) if begin < stop]
    if not solid or answer[0] < edges[0] or answer[1] > edges[1]:
        return None
    first = next((index for index in solid if stops[index] > answer[0]), solid[-1])
    last = next((index for index in reversed(solid) if begins[index] < answer[1]), first)
    return first, max(first, last)


def best_spans(
    starts: NDArray[np.float32], ends: NDArray[np.float32], solid: NDArray[np.bool_], longest: int, count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """The `count` spans with the highest sum of start and end score, of at most `longest` tokens.

    `starts`, `ends` are [tokens]. Spans begin and end with `solid` tokens. Returns first tokens, last tokens, scores.
    """
    tokens = len(starts)
    width = min(longest, tokens)
    if width == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    starts = np.where(solid, starts, -np.inf).astype(np.float32)
    ends = np.where(solid, ends, -np.inf).astype(np.float32)
    # scores[length - 1, first]: every span that there is, and no other.
    padded = np.concatenate([ends, np.full(width - 1, -np.inf, dtype=np.float32)])
    scores = starts[None, :] + np.lib.stride_tricks.sliding_window_view(padded, tokens)
    flat = scores.ravel()
    kept = np.argpartition(-flat, count)[:count] if count < len(flat) else np.arange(len(flat))
    kept = kept[np.isfinite(flat[kept])]
    kept = kept[np.argsort(-flat[kept], kind="stable")]
    first = kept % tokens
    return first, first + kept // tokens, flat[kept]


@dataclass(frozen=True)
class Span:
    """A span of a context, in code points, and its score."""

    begin: int
    end: int
    score: float


def merge(windows: Sequence[WindowSpans], count: int) -> tuple[list[Span], float]:
    """The best spans of a question over all its windows, each once, and the score of no answer.

    No answer is as likely as the window that speaks most against it says (Devlin et al. 2019): the minimum.
    """
    best: dict[tuple[int, int], float] = {}
    for window in windows:
        for begin, end, score in zip(window.begin.tolist(), window.end.tolist(), window.score.tolist(), strict=True):
            if score > best.get((begin, end), -np.inf):
                best[begin, end] = score
    ordered = sorted(best.items(), key=lambda item: (-item[1], item[0]))[:count]
    return [Span(begin, end, score) for (begin, end), score in ordered], min(window.null for window in windows)


def as_question(text: str, context: str, answers: dict[str, list[Any]]) -> Question:
    """A record as a question; of several gold answers the first is learnt."""
    texts, starts = answers["text"], answers["answer_start"]
    return Question(text, context, (starts[0], starts[0] + len(texts[0])) if texts else None)


def n_best(context: str, spans: Sequence[Span], null: float | None) -> list[dict[str, Any]]:
    """Answers with their share among those shown; the empty one is that there is none."""
    answers: list[dict[str, Any]] = [
        {"text": context[span.begin : span.end], "start": span.begin, "score": span.score} for span in spans
    ]
    if null is not None:
        answers.append({"text": "", "start": None, "score": null})
    answers.sort(key=lambda answer: -answer["score"])
    scores = np.array([answer["score"] for answer in answers], dtype=np.float64)
    shares = np.exp(scores - scores.max(initial=-np.inf))
    return [
        answer | {"probability": float(share)} for answer, share in zip(answers, shares / shares.sum(), strict=True)
    ]
