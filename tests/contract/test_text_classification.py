"""What the variants of text classification promise beyond what every task does."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import f1_score
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, pipeline

from app.catalog.tasks import TASKS
from tests.contract.tiny import Row, make_plan, train
from worker.protocol import Checkpoint, Log
from worker.tasks.text_classification.goal import Training
from worker.tasks.text_classification.multi_label import MultiLabel
from worker.training.data import Batch, Records, read_records
from worker.training.failures import UserError
from worker.training.pairs import tokenize_pairs
from worker.training.scaled_output import scale_output

SPEC = TASKS["text-classification"]
MULTI = {"type": "text-classification", "problem_type": "multi_label_classification"}
REGRESSION = {"type": "text-classification", "problem_type": "regression"}
SINGLE_ROWS, MULTI_ROWS, NUMBER_ROWS = (list(variant.example) for variant in SPEC.variants)


def refused(run_dir: Path, base: Path, task: dict[str, Any], rows: list[Row], **settings: Any) -> UserError:
    validation = settings.pop("validation", None)
    with pytest.raises(UserError) as caught:
        train(make_plan(run_dir, base, rows, validation, task=task, n_epochs=1, **settings), run_dir)
    assert not (run_dir / "artifact").exists()
    return caught.value


def labelled(*labels: object) -> list[Row]:
    return [{"text": f"text {number}", "label": label} for number, label in enumerate(labels)]


def test_thresholds_are_tuned_on_validation_and_kept_where_the_model_is_used(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    # Every text has its topics in it, "rent" for a third: the probability of a rare label stays below a half for long.
    rows = [
        {
            "text": f"{'rent ' * (n % 3 == 0)}{'train ' * (n % 2)}number {n}",
            "label": ["a"] * (n % 3 == 0) + ["b"] * (n % 2),
        }
        for n in range(48)
    ]
    plan = make_plan(
        tmp_path, tiny_encoder, rows, rows[:30], rows[24:], task=MULTI, n_epochs=3, batch_size=8, learning_rate=1e-3
    )
    outcome = train(plan, tmp_path)
    metrics = outcome.result.metrics
    thresholds = metrics["validation"]["thresholds"]
    assert set(thresholds) == {"a", "b"}
    assert any(threshold != 0.5 for threshold in thresholds.values())
    assert metrics["test"]["thresholds"] == thresholds
    artifact = tmp_path / "artifact"
    assert AutoConfig.from_pretrained(artifact).thresholds == thresholds
    best = next(point for point in outcome.of(Checkpoint) if point.step == metrics["best_step"])
    assert AutoConfig.from_pretrained(tmp_path / best.model_path).thresholds == thresholds

    classify: Any = pipeline("text-classification", model=str(artifact))
    for split, some in (("validation", rows[:30]), ("test", rows[24:])):
        answers = [classify(row["text"], function_to_apply="sigmoid", top_k=None) for row in some]
        predicted = [{a["label"] for a in found if a["score"] >= thresholds[a["label"]]} for found in answers]
        given = [[label in names for label in "ab"] for names in predicted]
        truth = [[label in row["label"] for label in "ab"] for row in some]
        f1 = f1_score(truth, given, average="micro", zero_division=0.0)
        assert f1 == pytest.approx(metrics[split]["f1_micro"], abs=1e-9)


def test_a_model_with_other_labels_does_not_inherit_thresholds(tiny_encoder: Path, tmp_path: Path) -> None:
    train(make_plan(tmp_path / "first", tiny_encoder, MULTI_ROWS, task=MULTI, n_epochs=1), tmp_path / "first")
    base = tmp_path / "first" / "artifact"
    outcome = train(make_plan(tmp_path / "second", base, SINGLE_ROWS, n_epochs=1), tmp_path / "second")
    config = json.loads((tmp_path / "second" / "artifact" / "config.json").read_text("utf-8"))
    assert "thresholds" not in config
    assert config["problem_type"] == "single_label_classification"
    assert any(log.data.get("code") == "head_replaced" for log in outcome.of(Log))


def batch_of(goal: MultiLabel, records: Records) -> Batch:
    targets = goal.targets(records, np.arange(records.table.num_rows))
    rows = np.arange(records.table.num_rows)
    matrix = torch.from_numpy(targets.matrix(rows, int(targets.lengths.max()), left=False))
    return Batch({}, {"label": matrix}, torch.ones(len(rows)), rows)


def multi_label_loss(tmp_path: Path, base: Path, **training: Any) -> tuple[float, torch.Tensor, torch.Tensor]:
    """Loss of the goal on fixed logits, the logits, and the targets [rows, labels]."""
    plan = make_plan(tmp_path, base, MULTI_ROWS, task=MULTI)
    records = read_records("train", plan.train, tmp_path)
    settings = {"label_smoothing": 0.0, "class_weights": None, "seed": 1} | training
    goal = MultiLabel.from_records({"train": records}, Training(**settings))
    logits = torch.randn(8, 3, generator=torch.Generator().manual_seed(3))
    truth = torch.tensor([[float(label in row["label"]) for label in goal.label_names] for row in MULTI_ROWS])
    return goal.objective(logits, batch_of(goal, records)).loss.item() / 8, logits, truth


def test_the_multi_label_loss_is_transformers_own(tiny_encoder: Path, tmp_path: Path) -> None:
    loss, logits, truth = multi_label_loss(tmp_path, tiny_encoder)
    assert loss == pytest.approx(torch.nn.BCEWithLogitsLoss()(logits, truth).item(), rel=1e-6)


def test_label_smoothing_moves_multi_label_targets_towards_a_half(tiny_encoder: Path, tmp_path: Path) -> None:
    loss, logits, truth = multi_label_loss(tmp_path, tiny_encoder, label_smoothing=0.2)
    assert loss == pytest.approx(torch.nn.BCEWithLogitsLoss()(logits, truth * 0.8 + 0.1).item(), rel=1e-6)


def test_a_map_of_weights_weighs_texts_that_have_a_label(tiny_encoder: Path, tmp_path: Path) -> None:
    weights = {"housing": 2.0, "money": 0.5, "transport": 3.0}
    loss, logits, truth = multi_label_loss(tmp_path, tiny_encoder, class_weights=weights)
    expected = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(list(weights.values())))(logits, truth)
    assert loss == pytest.approx(expected.item(), rel=1e-6)


def test_balanced_weights_make_texts_with_and_without_a_label_count_the_same(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    loss, logits, truth = multi_label_loss(tmp_path, tiny_encoder, class_weights="balanced")
    having = truth.sum(dim=0)
    weight = truth * 8 / (2 * having) + (1 - truth) * 8 / (2 * (8 - having))
    assert weight.sum(dim=0).tolist() == pytest.approx([8.0] * 3)
    assert (weight * truth).sum(dim=0).tolist() == pytest.approx([4.0] * 3)
    assert loss == pytest.approx(torch.nn.BCEWithLogitsLoss(weight=weight)(logits, truth).item(), rel=1e-6)


@pytest.mark.parametrize(
    ("task", "rows", "validation", "code", "param"),
    [
        (MULTI, labelled([], [], []), None, "no_labels", "training_file"),
        (MULTI, labelled(["a"], ["a"]), None, "one_label_only", "training_file"),
        (MULTI, MULTI_ROWS, labelled(["money"], ["other"]), "unseen_labels", "validation_file"),
        (REGRESSION, labelled(2.0, 2.0, 2.0), None, "constant_target", "training_file"),
        (REGRESSION, NUMBER_ROWS, labelled(1.0, 1.0), "constant_target", "validation_file"),
        (REGRESSION, labelled(1.0, math.nan, math.inf), None, "number_not_finite", "training_file"),
        (REGRESSION, labelled(1.0, 1e38), None, "number_too_large", "training_file"),
        (REGRESSION, labelled(1e9, 1e9 + 1), None, "spread_too_small", "training_file"),
    ],
)
def test_data_that_teaches_nothing_is_refused(
    task: dict[str, Any],
    rows: list[Row],
    validation: list[Row] | None,
    code: str,
    param: str,
    tiny_encoder: Path,
    tmp_path: Path,
) -> None:
    error = refused(tmp_path, tiny_encoder, task, rows, validation=validation)
    assert (error.code, error.param) == (code, param)
    assert "validation.jsonl" in error.message if validation else "train.jsonl" in error.message


@pytest.mark.parametrize("option", [{"class_weights": "balanced"}, {"label_smoothing": 0.1}])
def test_options_that_are_about_classes_are_refused_for_numbers(
    option: dict[str, Any], tiny_encoder: Path, tmp_path: Path
) -> None:
    (name,) = option
    error = refused(tmp_path, tiny_encoder, REGRESSION, NUMBER_ROWS, **option)
    assert (error.code, error.param) == (f"{name}_without_classes", f"hyperparameters.{name}")


def test_weights_for_other_labels_are_refused_with_many_labels_too(tiny_encoder: Path, tmp_path: Path) -> None:
    error = refused(tmp_path, tiny_encoder, MULTI, MULTI_ROWS, class_weights={"money": 2.0})
    assert (error.code, error.param) == ("class_weights_mismatch", "hyperparameters.class_weights")
    assert "housing" in error.message


def test_a_test_file_with_one_number_only_is_scored_without_what_means_nothing(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    plan = make_plan(tmp_path, tiny_encoder, NUMBER_ROWS, NUMBER_ROWS, labelled(3.0, 3.0), task=REGRESSION, n_epochs=1)
    scores = train(plan, tmp_path).result.metrics["test"]
    assert {"mse", "mae", "rmse", "loss"} <= set(scores)
    assert not {"r2", "pearson", "spearman"} & set(scores)


def test_numbers_of_any_size_are_learned_alike(tiny_encoder: Path, tmp_path: Path) -> None:
    def spearman_and_mae(name: str, factor: float, shift: float) -> tuple[float, float]:
        rows = [row | {"label": row["label"] * factor + shift} for row in NUMBER_ROWS]
        settings: dict[str, Any] = {"n_epochs": 30, "batch_size": 4, "learning_rate": 3e-3, "eval_interval": 60}
        plan = make_plan(tmp_path / name, tiny_encoder, rows, rows, task=REGRESSION, **settings)
        scores = train(plan, tmp_path / name).result.metrics["validation"]
        return scores["spearman"], scores["mae"] / factor

    usual = spearman_and_mae("usual", 1.0, 0.0)
    for name, factor, shift in (("huge", 2.0**20, 0.0), ("tiny", 2.0**-20, 0.0), ("far away", 1.0, 1000.0)):
        assert spearman_and_mae(name, factor, shift) == pytest.approx(usual, abs=0.15)


def tiny_model(model_type: str) -> PreTrainedModel:
    sizes = {"vocab_size": 50, "num_labels": 1, "pad_token_id": 0, "problem_type": "regression"}
    sizes |= {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    names = {
        "distilbert": {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16},
        "gpt2": {"n_embd": 16, "n_layer": 1, "n_head": 2, "bos_token_id": 1, "eos_token_id": 1},
        "xlnet": {"d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 16},
        "llama": {"num_key_value_heads": 2},
        "albert": {"embedding_size": 16},
    }
    config = AutoConfig.for_model(model_type, **(sizes | names.get(model_type, {})))
    return AutoModelForSequenceClassification.from_config(config).eval()


@pytest.mark.parametrize(
    "model_type", ["bert", "roberta", "distilbert", "electra", "albert", "deberta-v2", "xlnet", "gpt2", "llama"]
)
def test_a_scaled_output_saves_what_plain_transformers_reads(model_type: str, tmp_path: Path) -> None:
    model = tiny_model(model_type)
    scale_output(model, 0.25, start=7.0)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    ids = torch.arange(2, 12).reshape(2, 5)
    with torch.inference_mode():
        ours = model(input_ids=ids).logits
    model.save_pretrained(tmp_path)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    with torch.inference_mode():
        assert torch.allclose(plain(input_ids=ids).logits, ours, atol=1e-5)
    model.load_state_dict(plain.state_dict())
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())
    if any(
        name.endswith("bias") and len(tensor) == 1 for name, tensor in load_file(tmp_path / "model.safetensors").items()
    ):
        assert ours.mean().item() == pytest.approx(7.0, abs=0.5)


def test_a_trained_head_gives_the_same_numbers_in_another_scale() -> None:
    model = tiny_model("bert")
    ids = torch.arange(2, 12).reshape(2, 5)
    with torch.inference_mode():
        before = model(input_ids=ids).logits
        scale_output(model, 64.0, start=None)
        assert torch.allclose(model(input_ids=ids).logits, before, rtol=1e-5)


@pytest.fixture
def tokenizer(tiny_encoder: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_encoder)


def test_a_pair_that_fits_is_tokenised_as_transformers_does(tokenizer: Any) -> None:
    texts, pairs = ["The film", "It rained.", "alone"], ["was loud", "the last act", None]
    windows = tokenize_pairs(texts, pairs, tokenizer, 48)
    for index, (text, pair) in enumerate(zip(texts, pairs, strict=True)):
        expected = tokenizer(text, pair) if pair else tokenizer(text)
        for name in ("input_ids", "token_type_ids"):
            assert windows.inputs[name].row(index).tolist() == expected[name]


@pytest.mark.parametrize(("first", "second"), [(100, 3), (3, 100), (100, 60), (60, 100), (25, 100), (22, 21)])
def test_every_token_of_a_long_pair_is_in_some_window(first: int, second: int, tokenizer: Any) -> None:
    words = [f"{letter}{other}" for letter in "abcdefghij" for other in "klmnopqrst"]
    a, b = " ".join(words[:first]), " ".join(words[-second:])
    windows = tokenize_pairs([a], [b], tokenizer, 48)
    assert windows.windows_of.tolist() == [len(windows.record)]
    seen: dict[int, list[list[int]]] = {0: [], 1: []}
    for index in range(len(windows.record)):
        ids, types = windows.inputs["input_ids"].row(index), windows.inputs["token_type_ids"].row(index)
        assert len(ids) <= 48
        for kind, special in ((0, 2), (1, 1)):
            part = ids[types == kind].tolist()
            assert len(part) > special  # both texts are in every window
            seen[kind].append(part[1:-1] if kind == 0 else part[:-1])
    for kind, text in ((0, a), (1, b)):
        whole = tokenizer(text, add_special_tokens=False)["input_ids"]
        covered: set[int] = set()
        for part in seen[kind]:
            at = next(start for start in range(len(whole)) if whole[start : start + len(part)] == part)
            covered |= set(range(at, at + len(part)))
        assert covered == set(range(len(whole)))


def test_pairs_are_used_as_the_model_card_says(tiny_encoder: Path, tmp_path: Path) -> None:
    rows = [row | {"text_pair": "Two hours of my life."} for row in SINGLE_ROWS]
    train(make_plan(tmp_path, tiny_encoder, rows, n_epochs=1), tmp_path)
    shutil.copytree(tmp_path / "artifact", tmp_path / "path/to/this/directory")
    code = (tmp_path / "artifact" / "README.md").read_text("utf-8").split("```python\n")[1].split("\n```")[0]
    assert '"text_pair"' in code
    names: dict[str, Any] = {}
    exec(code.replace("path/to", str(tmp_path / "path/to")).replace("\nclassify(", "\nanswer = classify("), names)
    assert names["answer"]["label"] in ("positive", "negative")
