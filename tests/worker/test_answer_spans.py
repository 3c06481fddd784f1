"""Windows of question and context, and the spans that scores speak for."""

from itertools import pairwise

import numpy as np
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tests.contract.tiny import WINDOW, write_tiny_encoder
from worker.training.data import Examples
from worker.training.spans import Question, WindowSpans, best_spans, encode_questions, merge


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(write_tiny_encoder(tmp_path_factory.mktemp("tiny")))


def asked(context: str, answer: str | None, question: str = "who owns the boats") -> Question:
    begin = None if answer is None else context.index(answer)
    return Question(question, context, None if begin is None or answer is None else (begin, begin + len(answer)))


def gold_texts(question: Question, examples: Examples) -> list[str | None]:
    """What the targets of every window say is the answer; None for the null token."""
    found: list[str | None] = []
    for window in range(examples.count):
        start, end = int(examples.dense("start")[window]), int(examples.dense("end")[window])
        first, _ = examples.dense("context")[window]
        begins, stops = examples.ragged("begin").row(window), examples.ragged("stop").row(window)
        if start == end == examples.dense("null")[window]:
            found.append(None)
        else:
            found.append(question.context[begins[start - first] : stops[end - first]])
    return found


@pytest.mark.parametrize("stride", [0, 4, 10, 1000])
def test_every_token_of_a_long_context_stands_in_a_window_and_the_answer_in_one_at_least(
    tokenizer: PreTrainedTokenizerBase, stride: int
) -> None:
    words = [f"{first}{second}" for first in "abcdefgh" for second in "abcdefgh"]
    question = asked(" ".join(words), "ge")
    examples = encode_questions([question], tokenizer, WINDOW, stride)
    assert examples.count > 1
    assert examples.lengths.max() <= WINDOW
    covered: set[int] = set()
    spans = [
        (int(examples.ragged("begin").row(window)[0]), int(examples.ragged("stop").row(window)[-1]))
        for window in range(examples.count)
    ]
    for begin, stop in spans:
        covered.update(range(begin, stop))
    assert covered >= {index for index, character in enumerate(question.context) if character != " "}
    assert all(later[0] <= earlier[1] + 1 for earlier, later in pairwise(spans))
    texts = gold_texts(question, examples)
    assert "ge" in texts
    assert None in texts


@pytest.mark.parametrize(
    ("context", "answer"),
    [
        ("the mill", "mill"),
        ("😀😀 the mill", "mill"),
        ("e\u0301te\u0301 mill e\u0301te\u0301", "mill"),
        ("cafe\u0301 mill", "cafe\u0301"),
        ("mill cafe\u0301", "cafe\u0301"),
        ("你好 mill", "好"),
        ("\u200bmill", "mill"),
        ("  mill", "mill"),
    ],
)
def test_targets_name_the_very_characters_of_the_answer(
    tokenizer: PreTrainedTokenizerBase, context: str, answer: str
) -> None:
    question = asked(context, answer)
    assert gold_texts(question, encode_questions([question], tokenizer, WINDOW, 8)) == [answer]


def test_an_unanswerable_question_points_at_the_class_token(tokenizer: PreTrainedTokenizerBase) -> None:
    examples = encode_questions([asked("the mill [CLS]", None)], tokenizer, WINDOW, 8)
    assert [int(examples.dense(name)[0]) for name in ("start", "end", "null")] == [0, 0, 0]


def test_a_question_longer_than_the_window_leaves_half_of_it_to_the_context(tokenizer: PreTrainedTokenizerBase) -> None:
    question = asked("the mill sells bread " * 20, "bread", "what " * 500)
    examples = encode_questions([question], tokenizer, WINDOW, 8)
    assert examples.lengths.max() <= WINDOW
    assert examples.dense("context")[:, 1].max() >= (WINDOW - 3) // 2


@pytest.mark.parametrize(("tokens", "longest", "count"), [(12, 4, 5), (12, 30, 200), (1, 5, 3), (0, 5, 3), (40, 1, 7)])
def test_the_best_spans_are_those_of_trying_all(tokens: int, longest: int, count: int) -> None:
    generator = np.random.default_rng(tokens)
    starts, ends = generator.normal(size=(2, tokens)).astype(np.float32)
    solid = generator.random(tokens) < 0.8
    solid[:1] = True
    every = sorted(
        (-float(starts[first] + ends[last]), first, last)
        for first in range(tokens)
        for last in range(first, min(tokens, first + longest))
        if solid[first] and solid[last]
    )[:count]
    first, last, scores = best_spans(starts, ends, solid, longest, count)
    assert [(-float(s), int(f), int(e)) for f, e, s in zip(first, last, scores, strict=True)] == every


def test_windows_of_a_question_give_each_span_once_and_the_lowest_score_of_no_answer() -> None:
    def window(spans: list[tuple[int, int, float]], null: float) -> WindowSpans:
        begin, end, score = np.array(spans).T
        return WindowSpans(begin.astype(np.int64), end.astype(np.int64), score.astype(np.float32), null, 0.0)

    spans, null = merge([window([(5, 9, 3.0), (1, 2, 1.0)], 4.0), window([(5, 9, 3.5), (20, 22, 2.0)], -1.0)], 2)
    assert [(span.begin, span.end, span.score) for span in spans] == [(5, 9, 3.5), (20, 22, 2.0)]
    assert null == -1.0
