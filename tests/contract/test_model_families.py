"""Every family that Transformers has for a task trains, and its artifact is a plain model that predicts the same."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    pipeline,
)

from app.catalog.model_types import TOKEN_CLASSIFIERS
from tests.contract.families import FAMILIES, OFFSET, WINDOW, Family
from tests.contract.probes import PROBES, Probe
from tests.contract.tiny import Row, make_plan, train
from worker.protocol import Log, Started
from worker.training.auxiliary import share_body
from worker.training.bodies import features_of, listening, reader_of
from worker.training.failures import UserError

# One form of each kind of head; the others differ in the loss alone.
FORMS = ("single_label_classification", "crf", "linear", "question-answering")
CASES = [
    pytest.param(family, probe, id=f"{family.name}, {probe}")
    for family in FAMILIES
    for probe in PROBES
    if family.name in probe.spec.model_types and str(probe).split(" ")[-1] in FORMS
]


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base model of every family."""
    directory = tmp_path_factory.mktemp("families")
    return {family.name: family.write(directory / family.name) for family in FAMILIES}


def longer(row: Row) -> Row:
    """The row with its inputs repeated until they fill more than a window, to its last position."""
    return row | {
        name: value * 12 if name in ("text", "tokens", "tags") else f"{value} {value * 5}"
        for name, value in row.items()
        if name in ("text", "tokens", "tags", "context")
    }


# Transformers warns that it guesses words' ends for these tokenizers; of words that are given, the guess is right.
@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize(("family", "probe"), CASES)
def test_it_trains_and_plain_transformers_predicts_the_same(
    family: Family, probe: Probe, bases: dict[str, Path], tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"n_epochs": 1, "batch_size": 4, "learning_rate": 1e-3}
    rows = probe.rows
    plan = make_plan(tmp_path, bases[family.name], [*rows, longer(rows[0])], None, rows, task=probe.task, **settings)
    outcome = train(plan, tmp_path)
    (started,) = outcome.of(Started)
    assert started.hyperparameters["max_length"] == WINDOW
    assert any("overlapping windows" in log.message for log in outcome.of(Log))
    probe.check_artifact(tmp_path / "artifact", rows, outcome.result.metrics["test"])


def test_a_body_with_one_segment_reads_pairs_with_a_tokenizer_that_has_two(tmp_path: Path) -> None:
    rows = [
        {"text": "A man is singing.", "text_pair": "Someone sings.", "label": "yes"},
        {"text": "A man is singing.", "text_pair": "A dog barks.", "label": "no"},
    ] * 2
    roberta = next(family for family in FAMILIES if family.name == "roberta")
    bert = next(family for family in FAMILIES if family.name == "bert")
    base = replace(roberta, tokenizer=bert.tokenizer, sizes=OFFSET | {"type_vocab_size": 1}).write(tmp_path / "own")
    assert "token_type_ids" in AutoTokenizer.from_pretrained(base).model_input_names
    plan = make_plan(tmp_path, base, rows, test=rows, n_epochs=1, batch_size=2, learning_rate=1e-4)
    scores = train(plan, tmp_path).result.metrics["test"]
    classify: Any = pipeline("text-classification", model=str(tmp_path / "artifact"))
    answers = [classify({"text": row["text"], "text_pair": row["text_pair"]}, top_k=None) for row in rows]
    probabilities = [
        next(answer["score"] for answer in found if answer["label"] == row["label"])
        for found, row in zip(answers, rows, strict=True)
    ]
    assert -sum(map(math.log, probabilities)) / len(rows) == pytest.approx(scores["loss"], rel=1e-4)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_what_reads_texts_is_found_and_its_states_stand_for_them(family: Family, bases: dict[str, Path]) -> None:
    kind = AutoModelForSeq2SeqLM if family.name in ("bart", "t5") else AutoModelForSequenceClassification
    model = kind.from_pretrained(bases[family.name]).eval()
    tokenizer = AutoTokenizer.from_pretrained(bases[family.name])
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    inputs = tokenizer(["A warm film.", "Loud, long and empty, and more."], padding=True, return_tensors="pt")
    more = {"decoder_input_ids": inputs["input_ids"]} if model.config.is_encoder_decoder else {}
    reader = reader_of(model)
    with torch.inference_mode(), listening(reader) as heard:
        model(**inputs, **more)
        assert heard.states is not None
        found = features_of(heard.states, inputs["attention_mask"], "mean")
        again = features_of(reader(**inputs).last_hidden_state, inputs["attention_mask"], "mean")
    assert found.shape == (2, cast(Any, reader).config.hidden_size)
    torch.testing.assert_close(found, again)
    assert not torch.allclose(found[0], found[1])


@pytest.mark.parametrize(
    "family", [one for one in FAMILIES if one.name in TOKEN_CLASSIFIERS], ids=lambda family: family.name
)
def test_models_of_two_tasks_share_one_body(family: Family, bases: dict[str, Path]) -> None:
    one = AutoModelForSequenceClassification.from_pretrained(bases[family.name]).eval()
    other = AutoModelForTokenClassification.from_pretrained(bases[family.name]).eval()
    ids = torch.tensor([[7, 8, 9, 10]])
    with torch.inference_mode():
        before = other(input_ids=ids).logits
        share_body(one, other)
        assert torch.equal(other(input_ids=ids).logits, before)
        for parameter in one.base_model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        assert not torch.allclose(other(input_ids=ids).logits, before)
    shared = {id(parameter) for parameter in one.parameters()}
    left = {name for name, parameter in other.named_parameters() if id(parameter) not in shared}
    assert left == {name for name, _ in other.named_parameters() if not name.startswith(f"{other.base_model_prefix}.")}
    share_body(other, one)  # one body may have a pooler that the other lacks


def test_models_without_one_kind_of_body_are_refused(bases: dict[str, Path]) -> None:
    model = AutoModelForSeq2SeqLM.from_pretrained(bases["t5"])
    other = AutoModelForTokenClassification.from_pretrained(bases["t5"])
    with pytest.raises(UserError, match=r"T5ForConditionalGeneration .* T5ForTokenClassification .* no body in common"):
        share_body(model, other)
