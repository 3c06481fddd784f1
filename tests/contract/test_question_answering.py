"""What is particular to question answering: the null threshold, exact resume, refusals, other families of models."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModel, AutoTokenizer, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from app.catalog.tasks import TASKS
from tests.contract.probes import check_answers
from tests.contract.test_resume import carry_over
from tests.contract.tiny import WINDOW, Outcome, Row, after_step, make_plan, train
from worker.protocol import Log
from worker.training.failures import UserError

TASK: dict[str, Any] = {"type": "question-answering", "doc_stride": 8}
ROWS: list[Row] = list(TASKS["question-answering"].variants[0].example)
ANSWERABLE = [row for row in ROWS if row["answers"]["text"]]
LONG = ROWS[0] | {"id": "long", "context": "The boats are old. " * 12 + ROWS[0]["context"], "answers": {
    "text": ["the northern hills"], "answer_start": [12 * 19 + 19]}}  # fmt: skip
SETTINGS: dict[str, Any] = {"task": TASK, "n_epochs": 3, "batch_size": 2, "learning_rate": 2e-3}


def settings_of(outcome: Outcome) -> dict[str, Any]:
    return json.loads((outcome.run_dir / "artifact" / "question_answering.json").read_text("utf-8"))


@pytest.mark.parametrize("stop", [2, 4, 7])
def test_a_run_stopped_and_resumed_equals_an_uninterrupted_one(stop: int, tiny_encoder: Path, tmp_path: Path) -> None:
    rows = [*ROWS, LONG]
    splits = (rows, rows[:5], rows)
    whole = train(make_plan(tmp_path / "whole", tiny_encoder, *splits, **SETTINGS), tmp_path / "whole")
    first, second = tmp_path / "first", tmp_path / "second"
    assert train(make_plan(first, tiny_encoder, *splits, **SETTINGS), first, after_step(stop)).stopped
    last = f"checkpoints/{carry_over(first, second)}"
    resumed = train(make_plan(second, tiny_encoder, *splits, resume_from=last, **SETTINGS), second)
    assert resumed.weights == whole.weights
    assert resumed.result.metrics == whole.result.metrics
    assert settings_of(resumed) == settings_of(whole)


def test_the_null_threshold_is_tuned_on_validation_and_used_for_test_and_artifact(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    outcome = train(make_plan(tmp_path, tiny_encoder, ROWS, ROWS, ROWS[:5], **SETTINGS), tmp_path)
    validation, test = outcome.result.metrics["validation"], outcome.result.metrics["test"]
    assert isinstance(validation["null_threshold"], float)
    assert test["null_threshold"] == validation["null_threshold"] == settings_of(outcome)["null_threshold"]
    assert {"has_answer_f1", "no_answer_f1", "has_answer_exact_match", "no_answer_exact_match"} <= set(test)
    assert (test["questions"], test["unanswerable"]) == (5, 1)
    for entry in test["predictions"]:
        best = max((found for found in entry["n_best"] if found["text"]), key=lambda found: found["score"])
        null = next(found for found in entry["n_best"] if found["start"] is None)
        expected = "" if null["score"] - best["score"] > test["null_threshold"] else best["text"]
        assert entry["answer"] == expected
        assert sum(found["probability"] for found in entry["n_best"]) == pytest.approx(1)
        assert len(entry["n_best"]) <= 5 + 1


@pytest.mark.parametrize(("threshold", "answered"), [(1000.0, 8), (-1000.0, 0)])
def test_a_threshold_that_was_given_is_kept(
    threshold: float, answered: int, tiny_encoder: Path, tmp_path: Path
) -> None:
    settings = SETTINGS | {"task": TASK | {"null_threshold": threshold}}
    outcome = train(make_plan(tmp_path, tiny_encoder, ROWS, ROWS, ROWS, **settings), tmp_path)
    assert settings_of(outcome)["null_threshold"] == threshold
    assert sum(entry["answer"] != "" for entry in outcome.result.metrics["test"]["predictions"]) == answered


def test_without_unanswerable_questions_every_question_is_answered(tiny_encoder: Path, tmp_path: Path) -> None:
    outcome = train(make_plan(tmp_path, tiny_encoder, ANSWERABLE, ANSWERABLE, ROWS, **SETTINGS), tmp_path)
    assert settings_of(outcome)["null_threshold"] is None
    assert all(entry["answer"] for entry in outcome.result.metrics["test"]["predictions"])
    (warning,) = [log for log in outcome.of(Log) if log.data.get("code") == "unanswerable_not_trained"]
    assert (warning.data["split"], warning.data["count"]) == ("test", 2)


def test_without_validation_the_threshold_is_0_and_that_is_said(tiny_encoder: Path, tmp_path: Path) -> None:
    outcome = train(make_plan(tmp_path, tiny_encoder, ROWS, None, ROWS, **SETTINGS), tmp_path)
    assert outcome.result.metrics["test"]["null_threshold"] == 0.0
    assert any(log.data.get("code") == "null_threshold_not_tuned" for log in outcome.of(Log))


def test_chinese_answers_are_scored_by_character(tiny_encoder: Path, tmp_path: Path) -> None:
    rows = [
        {"question": "首都?", "context": "北京是首都", "answers": {"text": ["北京"], "answer_start": [0]}},
        {"question": "何处?", "context": "他住在上海", "answers": {"text": ["上海"], "answer_start": [3]}},
    ]
    outcome = train(make_plan(tmp_path, tiny_encoder, rows, rows, **SETTINGS), tmp_path)
    assert outcome.result.metrics["validation"]["normalization"] == "cmrc"


def refused(base: Path, run_dir: Path, rows: list[Row], **settings: Any) -> UserError:
    with pytest.raises(UserError) as caught:
        train(make_plan(run_dir, base, rows, **(SETTINGS | settings)), run_dir)
    return caught.value


def test_what_question_answering_cannot_use_is_refused(tiny_encoder: Path, tmp_path: Path) -> None:
    nothing = [row for row in ROWS if not row["answers"]["text"]]
    assert refused(tiny_encoder, tmp_path, nothing).code == "no_answers"
    assert refused(tiny_encoder, tmp_path, ROWS, label_smoothing=0.1).param == "hyperparameters.label_smoothing"
    assert refused(tiny_encoder, tmp_path, ROWS, class_weights="balanced").param == "hyperparameters.class_weights"


def test_questions_of_another_split_that_training_has_too_are_reported(tiny_encoder: Path, tmp_path: Path) -> None:
    outcome = train(make_plan(tmp_path, tiny_encoder, ROWS, None, ROWS[2:4], **SETTINGS), tmp_path)
    (warning,) = [log for log in outcome.of(Log) if log.data.get("code") == "leakage"]
    assert warning.data["rows"] == [(3, 1), (4, 2)]


def test_a_span_head_is_kept_when_training_goes_on(tiny_encoder: Path, tmp_path: Path) -> None:
    first = train(make_plan(tmp_path / "1", tiny_encoder, ROWS, None, ROWS, **SETTINGS), tmp_path / "1")
    still = SETTINGS | {"n_epochs": 1, "learning_rate": 1e-9, "weight_decay": 0.0}
    base = first.run_dir / "artifact"
    again = train(make_plan(tmp_path / "2", base, ROWS, None, ROWS, **still), tmp_path / "2")
    assert not any(log.data.get("code") == "head_replaced" for log in again.of(Log))
    scores = first.result.metrics["test"], again.result.metrics["test"]
    assert scores[0]["loss"] == pytest.approx(scores[1]["loss"], rel=1e-4)


SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": WINDOW + 2,
}
DECODER = {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": WINDOW}
FAMILIES: dict[str, dict[str, Any]] = {
    "roberta": SMALL,
    "xlm-roberta": SMALL,
    "distilbert": {"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": WINDOW},
    "electra": SMALL | {"embedding_size": 32},
    "albert": SMALL | {"embedding_size": 16},
    "deberta": SMALL,
    "deberta-v2": SMALL,
    "modernbert": SMALL | {"global_attn_every_n_layers": 1},
    "xlnet": {"d_model": 32, "n_layer": 1, "n_head": 2, "d_inner": 64},
    "gpt2": DECODER,
    "llama": SMALL | {"num_key_value_heads": 2},
    "bart": {
        **{f"{part}_{name}": value for part in ("encoder", "decoder") for name, value in (
            ("layers", 1), ("attention_heads", 2), ("ffn_dim", 64))},
        "d_model": 32, "max_position_embeddings": WINDOW,
    },
    "t5": {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2},
}  # fmt: skip


def base_of(family: str, tiny_encoder: Path, directory: Path) -> Path:
    """A tiny random model of a family with the tiny encoder's tokenizer, padded as the family wants it."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    tokenizer.padding_side = "left" if family in ("xlnet", "gpt2") else "right"
    if family not in ("electra", "albert", "deberta", "xlnet"):
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    special = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(token) for name, token in (
        ("pad", "[PAD]"), ("bos", "[CLS]"), ("eos", "[SEP]"), ("sep", "[SEP]"), ("cls", "[CLS]"))}  # fmt: skip
    config: PreTrainedConfig = CONFIG_MAPPING[family](
        vocab_size=len(tokenizer), **FAMILIES[family], **special, decoder_start_token_id=special["pad_token_id"]
    )
    AutoModel.from_config(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_trains_and_answers_the_same_with_plain_transformers(
    family: str, tiny_encoder: Path, tmp_path: Path
) -> None:
    base = base_of(family, tiny_encoder, tmp_path / "own_base")
    settings = SETTINGS | {"n_epochs": 1, "max_length": 40}
    rows = [*ROWS[:7], LONG]
    outcome = train(make_plan(tmp_path / "run", base, rows, rows, rows, **settings), tmp_path / "run")
    shutil.rmtree(base)
    check_answers(outcome.run_dir / "artifact", rows, outcome.result.metrics["test"])
