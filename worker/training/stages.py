"""The stages of a run: what comes before the task's own training, in which order, and what each hands on."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.catalog.methods import with_options
from worker.protocol import CHECKPOINTS, Log, checkpoint_name
from worker.training.adaptation import Adaptation
from worker.training.checkpoint import TrainState
from worker.training.data import Records
from worker.training.pretraining import pretraining_stage
from worker.training.reptile import reptile_stage
from worker.training.stage import Stage
from worker.training.trained import Trained

HANDING_ON = {"continued_pretraining": pretraining_stage, "meta_learning": reptile_stage}  # stages that make weights
CONTROL = "control"


def before(main: Stage, original: Records) -> list[Stage]:
    """The stages that a job's methods ask for before its own, each with its own steps.

    `original` are the training records before methods had their say: for the control, and as texts to read.
    """
    asked = main.run.plan.adaptation
    stages = [make(main, original) for name, make in HANDING_ON.items() if name in asked]
    return [*stages, _control(main, original)] if controlled(main) else stages


def controlled(main: Stage) -> list[str]:
    """The methods that a job wants to see measured against a run without them."""
    return [spec.name for spec, options in with_options(main.run.plan.adaptation) if options.control]


def _control(main: Stage, original: Records) -> Stage:
    """The same job without these methods: as many steps, on the training records as the other methods have them."""
    left_out = controlled(main)
    kept = {name: options for name, options in main.run.plan.adaptation.items() if name not in left_out}
    adaptation = Adaptation.of(main.task, kept)
    train = adaptation.augment(original, main.run.materials)
    return replace(
        main,
        name=CONTROL,
        adaptation=adaptation,
        records={**main.records, "train": train},
        encoded={name: split for name, split in main.splits.items() if name != "train" or split.records is train},
        asked_steps=main.total_steps,
        tells=False,
    )


def in_order(stages: list[Stage]) -> list[Stage]:
    """Count the steps of each from where the one before it ends."""
    total = sum(stage.total_steps for stage in stages)
    for place, stage in enumerate(stages):
        stage.offset = sum(earlier.total_steps for earlier in stages[:place])
        stage.later_examples = sum(later.examples_to_train for later in stages[place + 1 :])
        stage.steps_of_run = total
        if place > 0:
            stage.free()
    if len(stages) > 1:
        parts = ", then ".join(f"{_title(stage)} ({stage.total_steps} steps)" for stage in stages)
        stages[-1].run.emit(
            Log(f"The job has {len(stages)} stages: {parts}", data={"stages": [_title(stage) for stage in stages]})
        )
    return stages


def _title(stage: Stage) -> str:
    return stage.spec.name if stage.name is None else stage.name


def weights_for(stage: Stage, state: TrainState) -> Path | None:
    """The model that a stage starts with, where an earlier stage made one."""
    names: Sequence[str] = list(HANDING_ON)
    if stage.name in names:
        names = names[: names.index(stage.name)]
    if stage.name == CONTROL:
        left_out = [name for name in controlled(stage) if name in names]
        names = names[: min(map(names.index, left_out), default=len(names))]
    made = [state.finished[name]["weights_at"] for name in names if name in state.finished]
    return stage.run.directory / CHECKPOINTS / checkpoint_name(made[-1]) / "model" if made else None


def close(trained: Trained, following: Stage) -> TrainState:
    """Keep what came of a stage; returns where the run stands at the beginning of the one that follows."""
    stage, state = trained.stage, trained.state
    ended: dict[str, Any] = {
        "weights_at": following.offset if stage.name in HANDING_ON else None,
        "history": trained.history,
        "best_step": stage.offset + trained.best_step,
        "before": trained.before_training,
        "after": None if state.best is None else state.best.values,
    }
    if stage.name == CONTROL:
        split = "test" if "test" in stage.records else "validation"
        if split in stage.records:
            judged = trained.judge(split)
            ended |= {"split": split, "metrics": judged.metrics, "statistics": judged.outcomes.matrix.tolist()}
    assert stage.name is not None
    begun = TrainState(
        stage=following.name,
        offset=following.offset,
        finished=state.finished | {stage.name: ended},
        trained_tokens=state.trained_tokens,
    )
    trained.store.close(state, begun, pinned=stage.name in HANDING_ON)
    return begun
