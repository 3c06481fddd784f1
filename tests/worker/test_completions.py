import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from worker.training.completions import Learned, NextTokens, fit, mark
from worker.training.data import Ragged

BEGIN, END = 1, 2


def example(context: int, answer: int, *, begins: bool = False) -> Learned:
    ids = np.arange(10, 10 + context + answer, dtype=np.int32)
    return Learned(ids, np.arange(context + answer) >= context, int(begins))


@pytest.mark.parametrize(
    ("context", "answer", "kept", "cut"),
    [
        (10, 10, 20, "nothing"),
        (30, 10, 10, "context"),  # of the context
        (30, 19, 5, "answer"),
        (0, 40, 0, "answer"),
        (2, 40, 2, "answer"),
        (40, 15, 5, "context"),
    ],
)
def test_the_oldest_context_goes_first_and_then_the_end_of_the_answer(
    context: int, answer: int, kept: int, cut: str
) -> None:
    fitted = fit(example(context, answer), 20)
    assert fitted.cut == cut
    assert len(fitted.ids) <= 20
    assert fitted.learned[1:].any()
    if cut != "nothing":
        assert (~fitted.learned).sum() == kept
        assert fitted.ids.tolist() == list(range(10 + context - kept, 10 + context - kept + 20))


def test_a_begin_of_text_token_is_kept() -> None:
    fitted = fit(example(30, 10, begins=True), 20)
    assert fitted.ids.tolist() == [10, *range(31, 50)]


@pytest.mark.parametrize("context", [0, 1, 7, 8, 100])
@pytest.mark.parametrize("answer", [1, 2, 8, 100])
@pytest.mark.parametrize("begins", [True, False])
def test_no_window_is_without_something_to_learn(context: int, answer: int, begins: bool) -> None:
    if context + answer < 2:
        return  # a text of one token has nothing before it
    fitted = fit(example(context, answer, begins=begins and context > 0), 8)
    assert 2 <= len(fitted.ids) <= 8
    assert fitted.learned[1:].any()


def test_the_tokens_of_the_spans_are_learned_and_the_end_is_put_behind() -> None:
    backend = Tokenizer(models.WordLevel({"<s>": BEGIN, "</s>": END, "a": 3, "b": 4, "c": 5}, unk_token="a"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", BEGIN), ("</s>", END)]
    )
    found = mark(backend.encode("a b c a"), [(2, 3), (6, 7)], BEGIN, END)
    assert found.ids.tolist() == [BEGIN, 3, 4, 5, 3, END]
    assert found.learned.tolist() == [False, False, True, False, True, True]
    assert found.opening == 1
    open_end = mark(backend.encode("a b"), [(2, 3)], BEGIN, None)
    assert (open_end.ids.tolist(), open_end.learned.tolist()) == ([BEGIN, 3, 4], [False, False, True])


def test_each_learned_token_is_told_from_the_place_before_it() -> None:
    learned = Ragged.of([np.array([0, 1, 1], dtype=np.bool_), np.array([0, 0, 0, 1], dtype=np.bool_)], np.bool_, False)
    draw = NextTokens(learned)
    assert draw.counts.tolist() == [2, 1]
    ids = np.array([[7, 8, 9, 0], [4, 5, 6, 7]])
    targets = draw({"input_ids": ids}, np.array([0, 1]), None)
    assert targets["place"].tolist() == [0, 1, 6]
    assert targets["token"].tolist() == [8, 9, 7]
