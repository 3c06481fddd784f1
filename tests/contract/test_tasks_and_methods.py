import ast
import importlib
import pkgutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from transformers.models.auto.configuration_auto import model_type_to_module_name
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
)

import worker.methods
import worker.tasks
from app.catalog.methods import METHODS
from app.catalog.model_types import (
    CAUSAL_LANGUAGE_MODELS,
    ENCODER_DECODERS,
    MASKED_LANGUAGE_MODELS,
    QUESTION_ANSWERERS,
    SEQUENCE_CLASSIFIERS,
    TOKEN_CLASSIFIERS,
    WARM_STARTED,
)
from app.catalog.tasks import TASKS
from tests.contract.probes import PROBES, Probe
from tests.contract.tiny import make_plan, train
from worker.protocol import Checkpoint, Log, Metrics, Progress, Started
from worker.tasks.text_classification import TextClassification
from worker.training.interfaces import Task, task_class
from worker.training.method import Method, method_class

each_probe = pytest.mark.parametrize("probe", PROBES, ids=str)
ROWS = list(TASKS["text-classification"].variants[0].example)


def members(protocol: type) -> set[str]:
    return {name for name in vars(protocol) if not name.startswith("_")}


def modules_of(package: Any) -> set[str]:
    return {f"{package.__name__}.{module.name}" for module in pkgutil.iter_modules(package.__path__)}


def test_every_task_of_the_catalogue_names_a_class_that_satisfies_the_protocol() -> None:
    for spec in TASKS.values():
        assert members(Task) <= set(dir(task_class(spec)))


def test_every_method_of_the_catalogue_names_a_method() -> None:
    for spec in METHODS.values():
        assert issubclass(method_class(spec), Method)


def test_no_module_of_tasks_and_methods_is_orphaned() -> None:
    named = {spec.impl.partition(":")[0] for spec in (*TASKS.values(), *METHODS.values())}
    assert modules_of(worker.tasks) | modules_of(worker.methods) == named


@pytest.mark.parametrize(
    ("types", "classes"),
    [
        (SEQUENCE_CLASSIFIERS, MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES),
        (TOKEN_CLASSIFIERS, MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES),
        (QUESTION_ANSWERERS, MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES),
        (ENCODER_DECODERS, MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES),
        (WARM_STARTED, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
        (MASKED_LANGUAGE_MODELS, MODEL_FOR_MASKED_LM_MAPPING_NAMES),
        (CAUSAL_LANGUAGE_MODELS, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
    ],
)
def test_the_catalogue_lists_only_model_types_that_have_the_head(
    types: frozenset[str], classes: dict[str, Any]
) -> None:
    assert set(classes) >= types
    for model_type in types:
        class_names = classes[model_type]
        module = importlib.import_module(f"transformers.models.{model_type_to_module_name(model_type)}")
        assert hasattr(module, class_names if isinstance(class_names, str) else class_names[0])


def test_every_variant_that_a_job_can_ask_for_is_tested() -> None:
    probed = {(probe.spec.name, probe.variant.name) for probe in PROBES}
    for spec in TASKS.values():
        for variant in spec.variants:
            try:
                spec.options.model_validate({"type": spec.name} | spec.with_variant(variant))
            except ValidationError:
                continue
            assert (spec.name, variant.name) in probed


@each_probe
def test_it_overfits_eight_rows(probe: Probe, tiny_bases: dict[str, Path], tmp_path: Path) -> None:
    rows = probe.rows
    assert len(rows) == 8
    plan = make_plan(
        tmp_path,
        tiny_bases[probe.base],
        rows,
        rows,
        task=probe.task,
        n_epochs=probe.n_epochs,
        batch_size=4,
        learning_rate=3e-3,
        eval_interval=probe.n_epochs,
    )
    outcome = train(plan, tmp_path)
    reached = outcome.result.metrics["validation"][probe.variant.selection_metric]
    assert reached == pytest.approx(probe.perfect, rel=probe.tolerance)
    assert outcome.losses[-1] < probe.lowest_loss < outcome.losses[0]
    assert set(probe.variant.metrics) <= set(outcome.result.metrics["validation"])


@each_probe
def test_plain_transformers_loads_the_artifact_and_predicts_the_same(
    probe: Probe, tiny_bases: dict[str, Path], tmp_path: Path
) -> None:
    rows = probe.rows
    plan = make_plan(
        tmp_path,
        tiny_bases[probe.base],
        rows[:6],
        test=rows,
        task=probe.task,
        n_epochs=10,
        batch_size=2,
        learning_rate=1e-3,
    )
    outcome = train(plan, tmp_path)
    artifact = tmp_path / (outcome.result.artifact or "")
    probe.check_artifact(artifact, rows, outcome.result.metrics["test"])
    assert ast.parse(usage_of((artifact / "README.md").read_text("utf-8")))


def usage_of(card: str) -> str:
    return card.split("```python\n")[1].split("\n```")[0]


@each_probe
def test_the_same_seed_gives_the_same_losses_and_another_seed_others(
    probe: Probe, tiny_bases: dict[str, Path], tmp_path: Path
) -> None:
    def losses(name: str, seed: int) -> list[float]:
        settings: dict[str, Any] = {"task": probe.task, "seed": seed, "n_epochs": 2, "batch_size": 2}
        return train(make_plan(tmp_path / name, tiny_bases[probe.base], probe.rows, **settings), tmp_path / name).losses

    first = losses("first", 1)
    assert first == losses("again", 1)
    assert first != losses("other", 2)


@each_probe
def test_odd_texts_train_and_evaluate_without_loss_of_any(
    probe: Probe, tiny_bases: dict[str, Path], tmp_path: Path
) -> None:
    rows = probe.odd_rows
    plan = make_plan(tmp_path, tiny_bases[probe.base], rows, rows, rows, task=probe.task, n_epochs=2, batch_size=4)
    outcome = train(plan, tmp_path)
    probe.check_count(outcome.result.metrics["test"])
    windows = [log for log in outcome.of(Log) if probe.long_says in log.message]
    if probe.long is None:
        assert not windows
        return
    assert {log.data["split"] for log in windows} == {"train", "validation", "test"}
    assert windows[0].data[probe.noun] == probe.long
    assert windows[0].message.startswith(f"{probe.long} of {len(rows)} train {probe.noun} are longer than 48 tokens")


def test_events_tell_the_whole_story_in_order(tiny_encoder: Path, tmp_path: Path) -> None:
    rows = ROWS
    plan = make_plan(tmp_path, tiny_encoder, rows, rows, rows, n_epochs=2, batch_size=2)
    outcome = train(plan, tmp_path)
    (started,) = outcome.of(Started)
    assert started.total_steps == 8
    assert started.labels == ["negative", "positive"]
    assert "auto" not in started.hyperparameters.values()
    first, *_, last = outcome.of(Progress)
    assert (first.step, last.step, last.epoch) == (1, 8, 2.0)
    assert first.eta_s is not None
    assert first.eta_s > 0
    assert last.trained_tokens == outcome.result.trained_tokens
    assert [point.step for point in outcome.of(Checkpoint)] == [4, 8]
    for point in outcome.of(Checkpoint):
        assert point.model_path == f"{point.path}/model"
        assert {"train_loss", "valid_loss", "valid_f1_macro"} <= set(point.metrics)
    assert outcome.result.metrics["selected_by"] == "validation f1_macro"
    table = (tmp_path / "step_metrics.csv").read_text("utf-8").splitlines()
    assert table[0].startswith("step,epoch,learning_rate,train_loss,train_accuracy,valid_loss,valid_accuracy")
    assert len(table) == 1 + 8


def test_a_task_that_predicts_slowly_watches_a_sample_and_scores_the_whole_file_at_the_end(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TextClassification, "evaluation_rows", 4)
    plan = make_plan(tmp_path, tiny_encoder, ROWS, ROWS, n_epochs=2, batch_size=4)
    outcome = train(plan, tmp_path)
    scores = outcome.result.metrics["validation"]
    assert sum(entry["support"] for entry in scores["per_class"]) == 8
    watched = [event for event in outcome.of(Metrics) if event.split == "validation"]
    assert len(watched) == 3  # two epochs, and the whole file with the chosen weights
    assert watched[-1].values["loss"] == scores["loss"] != watched[-2].values["loss"]


def test_without_a_validation_file_the_last_step_is_taken_and_that_is_said(tiny_encoder: Path, tmp_path: Path) -> None:
    plan = make_plan(tmp_path, tiny_encoder, ROWS, n_epochs=2, batch_size=4)
    outcome = train(plan, tmp_path)
    assert outcome.result.metrics == {"best_step": 4, "selected_by": "last step (no validation file)"}
    assert any("no validation file" in log.message for log in outcome.of(Log) if log.level == "warn")
    assert "nothing is known about this model's quality" in (tmp_path / "artifact" / "README.md").read_text("utf-8")


def test_texts_that_stand_in_two_splits_are_reported_with_their_rows(tiny_encoder: Path, tmp_path: Path) -> None:
    rows = ROWS
    leaked = [rows[0] | {"text": f"  {rows[3]['text'].upper()} "}, {"text": "Fresh.", "label": "positive"}]
    plan = make_plan(tmp_path, tiny_encoder, rows, leaked, rows[4:], n_epochs=1, batch_size=4)
    warnings = [log for log in train(plan, tmp_path).of(Log) if log.data.get("code") == "leakage"]
    assert [(log.data["split"], log.data["count"], log.data["rows"][0]) for log in warnings] == [
        ("validation", 1, (4, 1)),
        ("test", 4, (5, 1)),
    ]
    assert all(log.level == "warn" for log in warnings)
