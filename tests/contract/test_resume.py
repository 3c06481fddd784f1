import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from app.catalog.plan import TrainingPlan
from app.catalog.tasks import TASKS
from tests.contract.probes import PROBES, Probe
from tests.contract.tiny import Outcome, after_step, make_plan, train
from worker.protocol import Checkpoint, Event, Metrics, Started
from worker.training.checkpoint import CheckpointError

ROWS = [
    *TASKS["text-classification"].variants[0].example,
    {"text": "A " + "very long " * 40 + "film.", "label": "negative"},
]
SETTINGS: dict[str, Any] = {"n_epochs": 3, "batch_size": 2, "eval_interval": 4, "learning_rate": 2e-3}


def carry_over(source: Path, target: Path) -> str:
    """What a supervisor does for another machine: only the best and the last checkpoint travel."""
    shutil.copytree(source / "checkpoints", target / "checkpoints")
    return max(path.name for path in (target / "checkpoints").iterdir())


def whole(base: Path, tmp_path: Path, **settings: Any) -> Outcome:
    run_dir = tmp_path / "whole"
    return train(make_plan(run_dir, base, ROWS, ROWS[:4], ROWS, **(SETTINGS | settings)), run_dir)


def resumed(base: Path, tmp_path: Path, stops: list[int], **settings: Any) -> Outcome:
    """The same job, stopped after each of `stops` and gone on with in a fresh directory."""
    settings = SETTINGS | settings
    last: str | None = None
    run_dir = tmp_path / "part0"
    for number, step in enumerate(stops, 1):
        plan = make_plan(run_dir, base, ROWS, ROWS[:4], ROWS, resume_from=last, **settings)
        assert train(plan, run_dir, after_step(step)).stopped
        before, run_dir = run_dir, tmp_path / f"part{number}"
        last = f"checkpoints/{carry_over(before, run_dir)}"
    return train(make_plan(run_dir, base, ROWS, ROWS[:4], ROWS, resume_from=last, **settings), run_dir)


@pytest.mark.parametrize("probe", PROBES, ids=str)
def test_every_form_of_every_task_goes_on_bit_for_bit(
    probe: Probe, tiny_bases: dict[str, Path], tmp_path: Path
) -> None:
    rows = probe.rows
    settings: dict[str, Any] = {"task": probe.task, "n_epochs": 2, "batch_size": 2, "eval_interval": 2}

    def run(name: str, **more: Any) -> Outcome:
        run_dir = tmp_path / name
        last = f"checkpoints/{carry_over(tmp_path / more.pop('after'), run_dir)}" if "after" in more else None
        plan = make_plan(run_dir, tiny_bases[probe.base], rows, rows[:6], rows, resume_from=last, **settings)
        return train(plan, run_dir, **more)

    assert run("first", when=after_step(3)).stopped
    assert run("second", after="first", when=after_step(6)).stopped
    assert_same(run("whole"), run("third", after="second"))


def assert_same(one: Outcome, other: Outcome) -> None:
    assert one.weights == other.weights
    assert one.result.metrics == other.result.metrics
    assert one.result.trained_tokens == other.result.trained_tokens
    assert (one.run_dir / "step_metrics.csv").read_bytes() == (other.run_dir / "step_metrics.csv").read_bytes()


@pytest.mark.parametrize(
    ("stops", "settings"),
    [
        pytest.param([1, 2, 3, 4, 5, 6, 7, 9, 11, 14], {}, id="nearly every step, in fp32"),
        pytest.param([2, 5], {"precision": "bf16", "gradient_accumulation_steps": 2}, id="bf16 with accumulation"),
        pytest.param([3], {"gradient_accumulation_steps": 3, "class_weights": "balanced"}, id="weighted classes"),
        pytest.param([8], {"lr_scheduler": "cosine", "label_smoothing": 0.1}, id="when an evaluation is due"),
        pytest.param([5], {"early_stopping_patience": 1, "n_epochs": 8}, id="with early stopping"),
    ],
)
def test_a_run_stopped_and_resumed_equals_an_uninterrupted_one_bit_for_bit(
    stops: list[int], settings: dict[str, Any], tiny_encoder: Path, tmp_path: Path
) -> None:
    assert_same(whole(tiny_encoder, tmp_path, **settings), resumed(tiny_encoder, tmp_path, stops, **settings))


@pytest.mark.parametrize("probe", PROBES, ids=str)
def test_every_task_resumes_bit_for_bit(probe: Probe, tiny_bases: dict[str, Path], tmp_path: Path) -> None:
    rows = [*probe.rows, *probe.odd_rows[-1:]]
    settings: dict[str, Any] = SETTINGS | {"n_epochs": 2, "task": probe.task}

    def plan(run_dir: Path, **more: Any) -> TrainingPlan:
        return make_plan(run_dir, tiny_bases[probe.base], rows, rows[:4], rows, **settings, **more)

    uninterrupted = train(plan(tmp_path / "whole"), tmp_path / "whole")
    assert train(plan(tmp_path / "part"), tmp_path / "part", after_step(5)).stopped
    last = carry_over(tmp_path / "part", tmp_path / "next")
    assert_same(uninterrupted, train(plan(tmp_path / "next", resume_from=f"checkpoints/{last}"), tmp_path / "next"))


def test_a_run_that_crashed_goes_on_from_its_last_checkpoint(tiny_encoder: Path, tmp_path: Path) -> None:
    def crash(event: Event) -> bool:
        if after_step(7)(event):
            raise ConnectionResetError("the machine is gone")
        return False

    run_dir, next_dir = tmp_path / "crashed", tmp_path / "next"
    with pytest.raises(ConnectionResetError):
        train(make_plan(run_dir, tiny_encoder, ROWS, ROWS[:4], ROWS, **SETTINGS), run_dir, crash)
    last = carry_over(run_dir, next_dir)
    assert last == "step-00000004"
    plan = make_plan(next_dir, tiny_encoder, ROWS, ROWS[:4], ROWS, resume_from=f"checkpoints/{last}", **SETTINGS)
    outcome = train(plan, next_dir)
    assert [event.resumed_from_step for event in outcome.of(Started)] == [4]
    assert_same(whole(tiny_encoder, tmp_path), outcome)


def test_a_stop_during_the_test_file_comes_back_to_the_same_result(tiny_encoder: Path, tmp_path: Path) -> None:
    uninterrupted = whole(tiny_encoder, tmp_path)
    (started,) = uninterrupted.of(Started)

    def last_checkpoint(event: Event) -> bool:
        return isinstance(event, Checkpoint) and event.step == started.total_steps

    run_dir, next_dir = tmp_path / "stopped", tmp_path / "next"
    outcome = train(make_plan(run_dir, tiny_encoder, ROWS, ROWS[:4], ROWS, **SETTINGS), run_dir, last_checkpoint)
    assert outcome.stopped
    last = carry_over(run_dir, next_dir)
    plan = make_plan(next_dir, tiny_encoder, ROWS, ROWS[:4], ROWS, resume_from=f"checkpoints/{last}", **SETTINGS)
    assert_same(uninterrupted, train(plan, next_dir))


def test_half_the_batch_with_twice_the_accumulation_sees_the_same_examples(tiny_encoder: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    settings: dict[str, Any] = SETTINGS | {"batch_size": 4}
    plan = make_plan(run_dir, tiny_encoder, ROWS, ROWS[:4], **settings)
    before = train(plan, run_dir, after_step(3))
    (point,) = before.of(Checkpoint)
    settings |= {"batch_size": 2, "gradient_accumulation_steps": 2}
    plan = make_plan(run_dir, tiny_encoder, ROWS, ROWS[:4], resume_from=point.path, **settings)
    after = train(plan, run_dir)
    (first,), (second,) = before.of(Started), after.of(Started)
    assert first.total_steps == second.total_steps
    assert next(event.step for event in after.of(Metrics) if event.split == "train") == 4


def test_checkpoints_are_written_by_time_too_and_only_best_and_last_stay(tiny_encoder: Path, tmp_path: Path) -> None:
    plan = make_plan(tmp_path, tiny_encoder, ROWS, ROWS[:4], checkpoint_interval_s=0, **SETTINGS)
    outcome = train(plan, tmp_path)
    (started,) = outcome.of(Started)
    last, best = started.total_steps, outcome.result.metrics["best_step"]
    assert [point.step for point in outcome.of(Checkpoint)] == list(range(1, last + 1))
    kept = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert kept == {f"step-{last:08d}", f"step-{best:08d}"}


def test_nothing_in_a_checkpoint_or_artifact_is_pickled(tiny_encoder: Path, tmp_path: Path) -> None:
    train(make_plan(tmp_path, tiny_encoder, ROWS, ROWS[:4], **SETTINGS), tmp_path)
    files = [path for name in ("checkpoints", "artifact") for path in (tmp_path / name).rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".md", ".safetensors"}


@pytest.fixture
def stopped_run(tiny_encoder: Path, tmp_path: Path) -> Path:
    run_dir = tmp_path / "stopped"
    assert train(make_plan(run_dir, tiny_encoder, ROWS, ROWS[:4], **SETTINGS), run_dir, after_step(6)).stopped
    return run_dir


def resume(run_dir: Path, base: Path, **settings: Any) -> Outcome:
    last = max(path.name for path in (run_dir / "checkpoints").iterdir())
    plan = make_plan(run_dir, base, ROWS, ROWS[:4], resume_from=f"checkpoints/{last}", **(SETTINGS | settings))
    return train(plan, run_dir)


@pytest.mark.parametrize(
    "name", ["state/state.json", "state/tensors.safetensors", "model/model.safetensors", "model/config.json"]
)
def test_a_checkpoint_without_one_of_its_files_is_refused_by_name(
    name: str, stopped_run: Path, tiny_encoder: Path
) -> None:
    (stopped_run / "checkpoints" / "step-00000006" / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        resume(stopped_run, tiny_encoder)


def test_a_checkpoint_that_was_cut_short_is_refused(stopped_run: Path, tiny_encoder: Path) -> None:
    weights = stopped_run / "checkpoints" / "step-00000006" / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"cut short.*model\.safetensors"):
        resume(stopped_run, tiny_encoder)


@pytest.mark.parametrize(
    "name", ["generator/cpu", "optimizer/classifier.weight/exp_avg", "optimizer/classifier.weight/step"]
)
def test_a_checkpoint_without_one_of_its_tensors_is_refused_by_name(
    name: str, stopped_run: Path, tiny_encoder: Path
) -> None:
    directory = stopped_run / "checkpoints" / "step-00000006" / "state"
    tensors = load_file(directory / "tensors.safetensors")
    del tensors[name]
    save_file(tensors, directory / "tensors.safetensors")
    content = json.loads((directory / "state.json").read_text("utf-8"))
    content["files"]["state/tensors.safetensors"] = (directory / "tensors.safetensors").stat().st_size
    (directory / "state.json").write_text(json.dumps(content), "utf-8")
    with pytest.raises(CheckpointError, match=name):
        resume(stopped_run, tiny_encoder)


def test_a_checkpoint_without_one_of_its_state_keys_is_refused_by_name(stopped_run: Path, tiny_encoder: Path) -> None:
    path = stopped_run / "checkpoints" / "step-00000006" / "state" / "state.json"
    content = json.loads(path.read_text("utf-8"))
    del content["state"]["evaluations_without_gain"]
    path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(CheckpointError, match="evaluations_without_gain"):
        resume(stopped_run, tiny_encoder)


def test_a_checkpoint_whose_best_one_is_not_beside_it_is_refused(stopped_run: Path, tiny_encoder: Path) -> None:
    shutil.rmtree(stopped_run / "checkpoints" / "step-00000004")
    with pytest.raises(CheckpointError, match="names step 4 as the best so far"):
        resume(stopped_run, tiny_encoder)


def test_a_checkpoint_of_another_run_is_refused_with_what_differs(stopped_run: Path, tiny_encoder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"learning_rate: 0\.002 then, 0\.001 now"):
        resume(stopped_run, tiny_encoder, learning_rate=1e-3)
