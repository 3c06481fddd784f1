import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from app.catalog.tasks import TASKS
from tests.contract.tiny import Row, make_plan, train
from worker.training.failures import UserError

ROWS = list(TASKS["text-classification"].variants[0].example)
OTHER = [*ROWS[:2], {"text": "So so.", "label": "neutral"}, {"text": "Meh.", "label": "neutral"}]


def refused(
    run_dir: Path, base: Path, train_rows: list[Row] = ROWS, validation: list[Row] | None = None, **settings: Any
) -> UserError:
    settings = {"n_epochs": 1, "batch_size": 4} | settings
    with pytest.raises(UserError) as caught:
        train(make_plan(run_dir, base, train_rows, validation, **settings), run_dir)
    assert not (run_dir / "artifact").exists()
    return caught.value


@pytest.fixture
def own_base(tiny_encoder: Path, tmp_path: Path) -> Path:
    """A base model that a test may break."""
    return Path(shutil.copytree(tiny_encoder, tmp_path / "own_base"))


def test_a_training_file_with_one_label_is_refused(tiny_encoder: Path, tmp_path: Path) -> None:
    error = refused(tmp_path, tiny_encoder, [row for row in ROWS if row["label"] == "positive"])
    assert (error.code, error.param) == ("one_label_only", "training_file")
    assert "'positive'" in error.message
    assert "train.jsonl" in error.message


def test_labels_that_training_never_saw_are_listed_with_their_first_rows(tiny_encoder: Path, tmp_path: Path) -> None:
    error = refused(tmp_path, tiny_encoder, ROWS, OTHER)
    assert (error.code, error.param) == ("unseen_labels", "validation_file")
    assert "'neutral' (row 3)" in error.message
    assert error.data == {"labels": {"neutral": 3}, "allowed": ["negative", "positive"], "line": 3}


@pytest.mark.parametrize(
    ("weights", "message"),
    [({"positive": 2.0, "neutral": 1.0}, r"\['neutral'\].*\['negative'\]"), ({"positive": 2.0}, r"\['negative'\]")],
)
def test_class_weights_for_other_labels_are_refused(
    weights: dict[str, float], message: str, tiny_encoder: Path, tmp_path: Path
) -> None:
    error = refused(tmp_path, tiny_encoder, class_weights=weights)
    assert (error.code, error.param) == ("class_weights_mismatch", "hyperparameters.class_weights")
    with pytest.raises(UserError, match=message):
        raise error


def test_a_window_longer_than_the_model_has_positions_is_refused_with_both_numbers(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    error = refused(tmp_path, tiny_encoder, max_length=100)
    assert (error.code, error.data) == ("max_length_too_long", {"allowed": 48})
    assert "100" in error.message
    assert "48" in error.message


def test_early_stopping_without_a_validation_file_is_refused(tiny_encoder: Path, tmp_path: Path) -> None:
    assert refused(tmp_path, tiny_encoder, early_stopping_patience=2).code == "early_stopping_needs_validation"


def test_fp16_without_a_gpu_is_refused(tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    error = refused(tmp_path, tiny_encoder, precision="fp16")
    assert (error.code, error.param) == ("precision_needs_gpu", "hyperparameters.precision")


def test_a_base_model_without_safetensors_is_refused_and_its_pickle_never_opened(
    own_base: Path, tmp_path: Path
) -> None:
    (own_base / "model.safetensors").rename(own_base / "pytorch_model.bin")
    error = refused(tmp_path, own_base)
    assert (error.code, error.param) == ("base_model_not_safetensors", "model")
    assert "pytorch_model.bin" in error.message


def test_a_base_model_with_broken_weights_is_refused(own_base: Path, tmp_path: Path) -> None:
    (own_base / "model.safetensors").write_bytes(b"not weights")
    assert refused(tmp_path, own_base).code == "base_model_unreadable"


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_base_model_without_a_readable_configuration_is_refused(content: str, own_base: Path, tmp_path: Path) -> None:
    (own_base / "config.json").write_text(content)
    assert refused(tmp_path, own_base).code == "base_model_unreadable"


def test_a_base_model_of_a_type_without_the_head_is_refused(own_base: Path, tmp_path: Path) -> None:
    config = json.loads((own_base / "config.json").read_text())
    (own_base / "config.json").write_text(json.dumps(config | {"model_type": "vit"}))
    error = refused(tmp_path, own_base)
    assert error.code == "base_model_does_not_fit_task"
    assert "'vit'" in error.message
    assert "bert" in error.data["allowed"]


def test_a_base_model_without_a_tokenizer_is_refused(own_base: Path, tmp_path: Path) -> None:
    (own_base / "tokenizer.json").unlink()
    assert refused(tmp_path, own_base).code in ("base_model_unreadable", "base_model_without_fast_tokenizer")


def test_code_that_a_base_model_brings_is_never_run(own_base: Path, tmp_path: Path) -> None:
    config = json.loads((own_base / "config.json").read_text())
    config["auto_map"] = {"AutoModelForSequenceClassification": "evil.Model", "AutoConfig": "evil.Config"}
    (own_base / "config.json").write_text(json.dumps(config))
    (own_base / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    train(make_plan(tmp_path, own_base, ROWS, n_epochs=1, batch_size=4), tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_loss_that_is_not_a_number_is_a_failure_that_names_the_step(own_base: Path, tmp_path: Path) -> None:
    weights = load_file(own_base / "model.safetensors")
    weights["embeddings.LayerNorm.weight"].fill_(float("inf"))
    save_file(weights, own_base / "model.safetensors", {"format": "pt"})
    error = refused(tmp_path, own_base, warmup_ratio=0.0)
    assert error.code == "loss_not_finite"
    assert "at step 1 with learning rate 0.0001" in error.message
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(
    ("rename", "kept"),
    [
        ({"positive": "good", "negative": "bad"}, False),
        ({"positive": "positive", "negative": "negative"}, True),
        ({"positive": "positive", "negative": "one of three"}, False),
    ],
)
def test_a_base_models_head_is_kept_for_the_very_labels_it_was_trained_on_only(
    rename: dict[str, str], kept: bool, tiny_encoder: Path, tmp_path: Path
) -> None:
    def run(name: str, base: Path, rows: list[Row], **settings: Any) -> dict[str, torch.Tensor]:
        settings = {"n_epochs": 1, "batch_size": 4} | settings
        train(make_plan(tmp_path / name, base, rows, **settings), tmp_path / name)
        return load_file(tmp_path / name / "artifact" / "model.safetensors")

    before = run("first", tiny_encoder, ROWS)
    rows = [row | {"label": rename[row["label"]]} for row in ROWS]
    rows += [{"text": "Three.", "label": "negative"}] if "one of three" in rename.values() else []
    after = run("second", tmp_path / "first" / "artifact", rows, learning_rate=1e-9, weight_decay=0.0)
    assert torch.allclose(
        before["bert.embeddings.word_embeddings.weight"], after["bert.embeddings.word_embeddings.weight"]
    )
    same_head = before["classifier.weight"].shape == after["classifier.weight"].shape and torch.allclose(
        before["classifier.weight"], after["classifier.weight"], atol=1e-6
    )
    assert same_head == kept


NER_ROWS: list[Row] = list(TASKS["token-classification"].variants[0].example)


@pytest.mark.parametrize(
    ("settings", "code", "param"),
    [
        ({"class_weights": "balanced"}, "class_weights_not_for_task", "hyperparameters.class_weights"),
        ({"label_smoothing": 0.1}, "label_smoothing_not_for_crf", "hyperparameters.label_smoothing"),
    ],
)
def test_hyperparameters_that_a_tagger_cannot_honour_are_refused(
    settings: dict[str, Any], code: str, param: str, tiny_encoder: Path, tmp_path: Path
) -> None:
    error = refused(tmp_path, tiny_encoder, NER_ROWS, task="token-classification", **settings)
    assert (error.code, error.param) == (code, param)


def test_sentences_without_any_entity_are_refused(tiny_encoder: Path, tmp_path: Path) -> None:
    rows = [row | {"tags": ["O"] * len(row["tokens"])} for row in NER_ROWS]
    error = refused(tmp_path, tiny_encoder, rows, task="token-classification")
    assert (error.code, error.param) == ("no_entities", "training_file")


def test_types_that_training_never_saw_are_listed_with_their_first_rows(tiny_encoder: Path, tmp_path: Path) -> None:
    other: list[Row] = [NER_ROWS[0], {"tokens": ["Easter"], "tags": ["B-DATE"]}]
    error = refused(tmp_path, tiny_encoder, NER_ROWS, other, task="token-classification")
    assert (error.code, error.param) == ("unseen_labels", "validation_file")
    assert error.data == {"labels": {"DATE": 2}, "allowed": ["LOC", "ORG", "PER"], "line": 2}
