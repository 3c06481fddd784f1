"""Stages before the task's own training: what they hand on, and that a run goes on exactly wherever it was stopped."""

import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM

from app.catalog.plan import TrainingPlan
from app.catalog.tasks import TASKS
from tests.contract.probes import PROBES, Probe
from tests.contract.test_resume import assert_same, carry_over
from tests.contract.tiny import Outcome, Row, example_texts, make_plan, train
from worker.protocol import Checkpoint, Event, Log, Metrics, Progress, Started
from worker.training.failures import UserError

TEXTS = [text.lower() for text in example_texts()][:60]
PRETRAINING: dict[str, Any] = {"n_epochs": 2, "batch_size": 2, "learning_rate": 5e-3}
SOURCES: tuple[list[Row], ...] = (
    [{"text": f"a fine film {n}", "label": "positive"} for n in range(4)]
    + [{"text": f"a dull film {n}", "label": "negative"} for n in range(4)],
    [{"text": f"good shoes {n}", "label": "positive"} for n in range(4)]
    + [{"text": f"bad shoes {n}", "label": "negative"} for n in range(4)],
)
ROWS = TASKS["text-classification"].variants[0].example
FORMS = {probe.task["type"]: probe for probe in reversed(PROBES)}
LABELS = {"type": "text-classification", "problem_type": "single_label_classification"}
META: dict[str, Any] = {"files": ["file-1", "file-2"], "rounds": 4, "inner_steps": 2, "step_size": 0.5}


def plan_of(run_dir: Path, base: Path, adaptation: dict[str, Any], **more: Any) -> TrainingPlan:
    given: dict[str, Any] = {"n_epochs": 2, "batch_size": 2, "eval_interval": 3, "learning_rate": 2e-3, "target": TEXTS}
    if "meta_learning" in adaptation:
        given["method_files"] = {f"meta_learning.files.{n}": (LABELS, rows) for n, rows in enumerate(SOURCES)}
    return make_plan(run_dir, base, ROWS, ROWS[:6], ROWS, adaptation=adaptation, **(given | more))


def at(step: int) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, Metrics) and event.split == "train" and event.step >= step


@pytest.mark.parametrize(
    "adaptation",
    [
        {"continued_pretraining": PRETRAINING},
        {"meta_learning": META},
        {"continued_pretraining": PRETRAINING | {"control": True}, "ema": {"decay": 0.9}},
        {"continued_pretraining": PRETRAINING, "meta_learning": META | {"control": True}, "lora": {"r": 4}},
    ],
    ids=" + ".join,
)
def test_a_run_of_stages_goes_on_bit_for_bit_from_each_of_them(
    adaptation: dict[str, Any], tiny_encoder: Path, tmp_path: Path
) -> None:
    whole = train(plan_of(tmp_path / "whole", tiny_encoder, adaptation), tmp_path / "whole")
    total = whole.of(Started)[0].total_steps
    assert whole.of(Progress)[-1].step == whole.of(Progress)[-1].total_steps == total
    ends = [event.step for event in whole.of(Checkpoint) if event.step in _ends_of_stages(whole)]
    stops = sorted({1, *ends, *(end + 2 for end in ends[:1]), total - 1})
    last, before = None, None
    for number, step in enumerate(stops):
        run_dir = tmp_path / f"part{number}"
        if before is not None:
            last = f"checkpoints/{carry_over(before, run_dir)}"
        stopped = train(plan_of(run_dir, tiny_encoder, adaptation, resume_from=last), run_dir, at(step))
        assert stopped.stopped
        before = run_dir
    assert before is not None
    last = f"checkpoints/{carry_over(before, tmp_path / 'end')}"
    assert_same(whole, train(plan_of(tmp_path / "end", tiny_encoder, adaptation, resume_from=last), tmp_path / "end"))


def _ends_of_stages(outcome: Outcome) -> set[int]:
    metrics = outcome.of(Metrics)
    return {one.step for one, other in pairwise(metrics) if one.stage != other.stage}


@pytest.mark.parametrize("task", ["token-classification", "question-answering", "summarization", "text-generation"])
def test_the_task_starts_from_the_body_that_read_the_domain(
    task: str, tiny_bases: dict[str, Path], tmp_path: Path
) -> None:
    probe: Probe = FORMS[task]
    base = tiny_bases[probe.base]
    rows = probe.rows
    # A rate of next to nothing, so that the result still is what the task started from.
    given: dict[str, Any] = {"task": probe.task, "n_epochs": 1, "learning_rate": 1e-12, "target": TEXTS}
    plan = make_plan(tmp_path, base, rows, adaptation={"continued_pretraining": PRETRAINING}, **given)
    outcome = train(plan, tmp_path)
    (pinned,) = [checkpoint for checkpoint in outcome.of(Checkpoint) if checkpoint.pinned]
    read = load_file(tmp_path / pinned.model_path / "model.safetensors")
    after = load_file(tmp_path / "artifact" / "model.safetensors")
    before = load_file(base / "model.safetensors")
    name = next(name for name in before if name.endswith(("layer.0.output.dense.weight", "h.0.mlp.c_proj.weight")))
    (read_body,) = [value for key, value in read.items() if key.endswith(name)]
    bodies = [value for key, value in after.items() if key.endswith(name)]
    assert bodies
    for body in bodies:
        torch.testing.assert_close(body, read_body, atol=1e-6, rtol=0)
    assert not torch.allclose(read_body, before[name], atol=1e-4)


def test_continued_pretraining_reads_what_the_job_says_and_tells_what_it_was_good_for(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    adaptation = {"continued_pretraining": PRETRAINING | {"n_epochs": 8, "use_training_texts": True}}
    outcome = train(plan_of(tmp_path, tiny_encoder, adaptation), tmp_path)
    said = [log.message for log in outcome.of(Log)]
    texts = len({*TEXTS, *(row["text"] for row in ROWS)})
    held_out = texts // 20
    assert not [message for message in said if "less than usual" in message]  # it has a rate of its own
    assert f"Continued pretraining reads {texts} texts: {texts - held_out} train, {held_out} validation" in said
    stage = [event for event in outcome.of(Metrics) if event.stage == "continued_pretraining"]
    perplexities = [event.values["perplexity"] for event in stage if event.split == "validation"]
    assert len(perplexities) == 9
    assert min(perplexities[1:]) < perplexities[0]
    (pinned,) = [checkpoint for checkpoint in outcome.of(Checkpoint) if checkpoint.pinned]
    assert AutoModelForMaskedLM.from_pretrained(tmp_path / pinned.model_path).config.model_type == "bert"
    header = (tmp_path / "step_metrics.csv").read_text().splitlines()[0].split(",")
    assert {"continued_pretraining_train_loss", "continued_pretraining_valid_perplexity", "train_loss"} <= set(header)


@pytest.mark.parametrize("known", [False, True], ids=["a new head", "a head of its own"])
def test_a_new_head_learns_gently_unless_the_job_says_otherwise(
    known: bool, tiny_encoder: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_encoder, base)
    if known:
        AutoModelForMaskedLM.from_pretrained(tiny_encoder).save_pretrained(base)
    runs: list[Outcome] = []
    for number, rate in enumerate(({}, {"learning_rate": 3e-5})):
        adaptation = {"continued_pretraining": {"max_steps": 4, "batch_size": 2} | rate}
        runs.append(train(plan_of(tmp_path / f"{number}", base, adaptation), tmp_path / f"{number}"))
    told = [
        [log.data["learning_rate"] for log in run.of(Log) if log.data.get("code") == "gentle_pretraining"]
        for run in runs
    ]
    assert told == [[] if known else [3e-5], []]
    assert (runs[0].weights == runs[1].weights) is not known


@pytest.mark.parametrize(
    ("max_length", "options", "window"),
    [("auto", {}, 48), (16, {}, 16), (16, {"max_length": 32}, 32), ("auto", {"max_length": 24}, 24)],
)
def test_blocks_are_as_long_as_asked_for_else_as_the_windows_of_the_job(
    max_length: int | str, options: dict[str, Any], window: int, tiny_encoder: Path, tmp_path: Path
) -> None:
    adaptation = {"continued_pretraining": {"max_steps": 1} | options}
    outcome = train(plan_of(tmp_path, tiny_encoder, adaptation, max_length=max_length, max_steps=1), tmp_path)
    (packed,) = [log for log in outcome.of(Log) if " train texts are packed into " in log.message]
    assert packed.data["max_length"] == window
    assert f"of at most {window} tokens" in packed.message


def test_the_control_is_the_job_without_the_method(tiny_encoder: Path, tmp_path: Path) -> None:
    with_control = train(plan_of(tmp_path / "with", tiny_encoder, {"fgm": {"control": True}}), tmp_path / "with")
    alone = train(plan_of(tmp_path / "alone", tiny_encoder, {"fgm": {}}), tmp_path / "alone")
    plain = train(plan_of(tmp_path / "plain", tiny_encoder, {}), tmp_path / "plain")
    assert with_control.weights == alone.weights
    told = [event.values for event in with_control.of(Metrics) if event.split == "test"]
    assert told == [_values(plain), _values(alone)]
    state = json.loads((tmp_path / "with" / _last(with_control).path / "state" / "state.json").read_text())["state"]
    assert state["finished"]["control"]["metrics"]["loss"] == plain.result.metrics["test"]["loss"]


def _values(outcome: Outcome) -> dict[str, float]:
    (event,) = [event for event in outcome.of(Metrics) if event.split == "test"]
    return event.values


def _last(outcome: Outcome) -> Checkpoint:
    return outcome.of(Checkpoint)[-1]


@pytest.mark.parametrize(
    ("adaptation", "more", "code", "named"),
    [
        ({"continued_pretraining": {}}, {"target": ()}, "continued_pretraining_without_texts", "target_files"),
        (
            {"continued_pretraining": {"objective": "causal"}},
            {},
            "continued_pretraining_does_not_fit_model",
            "objectives are: masked",
        ),
        (
            {"continued_pretraining": {"max_length": 1000}},
            {},
            "max_length_too_long",
            "adaptation.continued_pretraining.max_length is 1000, but base model 'local/tiny' reads at most 48 tokens",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(
    adaptation: dict[str, Any], more: dict[str, Any], code: str, named: str, tiny_encoder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as refused:
        train(plan_of(tmp_path, tiny_encoder, adaptation, **more), tmp_path)
    assert refused.value.code == code
    assert named in str(refused.value)


def test_sources_with_labels_of_their_own_are_refused(tiny_encoder: Path, tmp_path: Path) -> None:
    plan = plan_of(tmp_path, tiny_encoder, {"meta_learning": META})
    odd = [{"text": "a film", "label": "so-so"}]
    key = "meta_learning.files.0"
    other = make_plan(tmp_path / "other", tiny_encoder, ROWS, method_files={key: (LABELS, odd)}, adaptation={})
    (tmp_path / plan.method_files[key].path).write_bytes(
        (tmp_path / "other" / other.method_files[key].path).read_bytes()
    )
    with pytest.raises(UserError, match="labels that the training file never shows: 'so-so'"):
        train(plan, tmp_path)
