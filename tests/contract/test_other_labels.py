"""A trained model begins a job with other labels: those that it knows keep what was learned of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from app.catalog.tasks import TASKS
from tests.contract.tiny import Row, make_plan, train
from worker.heads.crf import add_modeling_file, trained_class
from worker.protocol import Log
from worker.training.classifier import load_classifier
from worker.training.encoder import open_base

TEXTS, TAGS = "ForSequenceClassification", "ForTokenClassification"
OLD = ["news", "sports", "travel"]


def named(labels: Sequence[str]) -> dict[str, Any]:
    return {"id2label": dict(enumerate(labels)), "label2id": {label: place for place, label in enumerate(labels)}}


def write_model(directory: Path, model: PreTrainedModel, tokenizer: Path) -> Path:
    torch.manual_seed(11)
    with torch.no_grad():
        for parameter in model.parameters():  # biases too, which begin as zeros
            parameter.copy_(torch.randn_like(parameter))
    model.save_pretrained(directory)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(directory)
    return directory


def classifier(directory: Path, encoder: Path, labels: Sequence[str]) -> Path:
    model = AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=len(labels), **named(labels))
    return write_model(directory, model, encoder)


def load(
    directory: Path, labels: list[str], auto_class: Any = AutoModelForSequenceClassification, suffix: str = TEXTS
) -> tuple[PreTrainedModel, list[Log]]:
    told: list[Log] = []
    base = open_base("local/first", directory, TASKS["text-classification"].model_types)
    loader = trained_class(base.config) if auto_class == "crf" else auto_class
    torch.manual_seed(1)
    outside = "O" if suffix == TAGS else None
    return load_classifier(base, loader, suffix, labels, told.append, outside=outside), told


def test_labels_that_the_head_knows_keep_their_rows_and_the_rest_is_fresh(tiny_encoder: Path, tmp_path: Path) -> None:
    base = classifier(tmp_path, tiny_encoder, OLD)
    trained = AutoModelForSequenceClassification.from_pretrained(base)
    model, told = load(base, ["cooking", "sports", "news", "weather"])
    assert model.config.id2label == {0: "cooking", 1: "sports", 2: "news", 3: "weather"}
    assert model.config.num_labels == model.num_labels == 4
    assert model.classifier.weight.shape == (4, 32)
    assert torch.equal(model.classifier.weight[[1, 2]], trained.classifier.weight[[1, 0]])
    assert torch.equal(model.classifier.bias[[1, 2]], trained.classifier.bias[[1, 0]])
    assert torch.equal(model.classifier.bias[[0, 3]], torch.zeros(2))
    assert model.classifier.weight[[0, 3]].abs().max() < 0.2  # of a fresh head, not of one with a spread of 1
    assert torch.equal(model.bert.embeddings.word_embeddings.weight, trained.bert.embeddings.word_embeddings.weight)
    (log,) = told
    assert log.data == {
        "code": "head_rows_kept",
        "kept": ["sports", "news"],
        "fresh": ["cooking", "weather"],
        "dropped": ["travel"],
    }
    assert "2 of the 4 labels: their rows are kept, those of 'cooking', 'weather' are fresh" in log.message


def test_another_order_keeps_all_rows(tiny_encoder: Path, tmp_path: Path) -> None:
    base = classifier(tmp_path, tiny_encoder, ["travel", "news", "sports"])
    trained = AutoModelForSequenceClassification.from_pretrained(base).eval()
    model, told = load(base, OLD)
    inputs = AutoTokenizer.from_pretrained(base)(["a text", "another one"], padding=True, return_tensors="pt")
    with torch.inference_mode():
        torch.testing.assert_close(model.eval()(**inputs).logits, trained(**inputs).logits[:, [1, 2, 0]])
    assert [log.data["fresh"] for log in told] == [[]]
    assert told[0].message == "The base model's head knows 3 of the 3 labels: their rows are kept."


def test_the_same_labels_in_their_order_are_nothing_to_tell(tiny_encoder: Path, tmp_path: Path) -> None:
    model, told = load(classifier(tmp_path, tiny_encoder, OLD), OLD)
    trained = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert told == []
    assert torch.equal(model.classifier.weight, trained.classifier.weight)


def test_a_head_that_knows_none_of_the_labels_is_replaced_whole(tiny_encoder: Path, tmp_path: Path) -> None:
    base = classifier(tmp_path, tiny_encoder, OLD)
    model, told = load(base, ["a", "b", "c"])
    assert [log.data["code"] for log in told] == ["head_replaced"]
    assert torch.equal(model.classifier.bias, torch.zeros(3))
    assert model.classifier.weight.abs().max() < 0.2
    trained = AutoModelForSequenceClassification.from_pretrained(base)
    assert torch.equal(model.bert.pooler.dense.weight, trained.bert.pooler.dense.weight)


@pytest.mark.parametrize("labels", [["news", "other"], ["one", "other"]])
def test_layers_of_a_head_below_its_output_stay_with_the_rows_that_read_them(
    labels: list[str], tiny_encoder: Path, tmp_path: Path
) -> None:
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 50}
    config = RobertaConfig(vocab_size=400, hidden_size=16, num_labels=3, pad_token_id=0, **sizes, **named(OLD))
    base = write_model(tmp_path, RobertaForSequenceClassification(config), tiny_encoder)
    trained = AutoModelForSequenceClassification.from_pretrained(base)
    model, _ = load(base, labels)
    assert torch.equal(model.classifier.dense.weight, trained.classifier.dense.weight) == ("news" in labels)
    assert torch.equal(model.classifier.out_proj.weight[0], trained.classifier.out_proj.weight[0]) == ("news" in labels)


def tags_of(*types: str) -> list[str]:
    return ["O", *(f"{prefix}-{kind}" for kind in types for prefix in "BI")]


def test_a_field_keeps_its_scores_of_one_known_tag_after_another(tiny_encoder: Path, tmp_path: Path) -> None:
    old, new = tags_of("LOC", "PER"), tags_of("ORG", "PER")
    config = AutoConfig.from_pretrained(tiny_encoder, **named(old))
    base = write_model(tmp_path, trained_class(config)(config), tiny_encoder)
    add_modeling_file(base, 48)
    trained, _ = load(base, old, "crf", TAGS)
    model, told = load(base, new, "crf", TAGS)
    assert told[0].data["kept"] == ["O", "B-PER", "I-PER"]
    here, there = torch.tensor([0, 3, 4]), torch.tensor([0, 3, 4])
    assert torch.equal(model.crf.transitions[here[:, None], here], trained.crf.transitions[there[:, None], there])
    assert torch.equal(model.crf.start_transitions[here], trained.crf.start_transitions[there])
    assert torch.equal(model.crf.end_transitions[here], trained.crf.end_transitions[there])
    assert model.crf.transitions[1:3].abs().max() <= 0.1  # pytorch-crf's own start
    assert torch.equal(model.classifier.weight[here], trained.classifier.weight[there])


def test_what_is_outside_of_other_entities_is_another_outside(tiny_encoder: Path, tmp_path: Path) -> None:
    old, new = tags_of("LOC"), tags_of("GENE")
    model = AutoModelForTokenClassification.from_pretrained(tiny_encoder, num_labels=3, **named(old))
    base = write_model(tmp_path, model, tiny_encoder)
    model, told = load(base, new, AutoModelForTokenClassification, TAGS)
    assert [log.data["code"] for log in told] == ["head_replaced"]
    assert model.classifier.weight.abs().max() < 0.2


ROWS: list[Row] = [{"text": f"the {place} {label} story", "label": label} for label in OLD for place in "abcd"]


def test_a_job_goes_on_from_a_model_with_some_of_its_labels(tiny_encoder: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"n_epochs": 8, "batch_size": 4, "learning_rate": 5e-3}
    train(make_plan(tmp_path / "first", tiny_encoder, ROWS, **settings), tmp_path / "first")
    renamed = [row | {"label": row["label"].replace("travel", "leisure")} for row in ROWS]
    plan = make_plan(tmp_path / "next", tmp_path / "first" / "artifact", renamed, test=renamed, n_epochs=1)
    outcome = train(plan, tmp_path / "next")
    (log,) = [log for log in outcome.of(Log) if log.data.get("code") == "head_rows_kept"]
    assert log.data["kept"] == ["news", "sports"]
    # Two thirds are known from the first job; one epoch at a small rate teaches nothing.
    assert outcome.result.metrics["test"]["accuracy"] >= 0.6
