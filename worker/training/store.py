"""A run's checkpoints: what goes into them, which are kept, and how a run is put back where one was written."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from worker.protocol import Checkpoint, Event, checkpoint_name
from worker.training import checkpoint
from worker.training.adaptation import MODULES, Adaptation
from worker.training.checkpoint import Snapshot, TrainState
from worker.training.device import generator_state, restore_generators
from worker.training.encoder import BaseModelFiles
from worker.training.interfaces import Task
from worker.training.method import Moment
from worker.training.preprocessing import Preprocessed

GENERATOR, METHOD = "generator/", "method/"  # how the names of tensors in a checkpoint start


@dataclass
class Store:
    """The run's checkpoints on disk."""

    directory: Path
    run_dir: Path
    identity: dict[str, Any]
    offset: int  # steps of the run before this stage
    base: BaseModelFiles
    task: Task
    trained_for: str  # the task's name
    max_length: int
    preprocessed: Preprocessed
    adaptation: Adaptation
    keep: Callable[[Path], None]
    steps_per_epoch: int
    total_steps: int
    model: PreTrainedModel
    optimizer: torch.optim.Optimizer
    scaler: Any  # torch.amp.GradScaler, or None without fp16
    emit: Callable[[Event], None]
    saved: tuple[int, int] | None = None

    def save(self, state: TrainState) -> None:
        """Write, tell, prune to the best and the last. A state that is on disk already is not written again."""
        if self.saved == (state.step, state.milestone):
            return
        generators, tensors = generator_state()
        snapshot = Snapshot(
            state=state,
            run=self.identity,
            generators=generators,
            loss_scale=None if self.scaler is None else self.scaler.state_dict(),
            tensors={f"{GENERATOR}{name}": tensor for name, tensor in tensors.items()}
            | {f"{METHOD}{name}": tensor for name, tensor in self.adaptation.tensors(self.model).items()}
            | checkpoint.optimizer_tensors(self.adaptation.parameters(self.model), self.optimizer),
        )
        path, files = checkpoint.save(
            self.directory, snapshot, lambda directory: self.write_model(directory, state), self.keep
        )
        self.saved = (state.step, state.milestone)
        best = state.best is not None and state.best.step == state.step
        self._tell(self.offset + state.step, path, files, _newest_metrics(state), best=best, pinned=False)
        stay = {state.step} | ({state.best.step} if state.best else set[int]())
        checkpoint.prune(self.directory, {self.offset + step for step in stay} | _needed(state))

    def close(self, state: TrainState, following: TrainState, *, pinned: bool) -> None:
        """The stage is over and the model has the weights it ends with: leave them for what comes next.

        `following` is where the run stands then. `pinned`: it needs these weights to the end.
        """
        snapshot = Snapshot(following, self.identity, generators={}, loss_scale=None, tensors={})
        path, files = checkpoint.save(
            self.directory, snapshot, lambda directory: self.write_model(directory, state), self.keep
        )
        self._tell(following.offset, path, files, _newest_metrics(state), best=False, pinned=pinned)
        checkpoint.prune(self.directory, {following.offset} | _needed(following))

    def _tell(
        self, step: int, path: Path, files: dict[str, int], metrics: dict[str, float], *, best: bool, pinned: bool
    ) -> None:
        relative = str(path.relative_to(self.run_dir))
        self.emit(
            Checkpoint(step, relative, f"{relative}/model", best, metrics, files, task=self.trained_for, pinned=pinned)
        )

    def restore(self, path: Path) -> TrainState:
        """Put model, optimizer and generators back where the checkpoint was written."""
        snapshot = checkpoint.load(path, self.identity)
        # What trained in the step before has moments to put back.
        before = snapshot.state.step - 1
        self.adaptation.start_step(self.model, Moment(before, self.total_steps, before / self.steps_per_epoch))
        self.adaptation.restore(self.model, path / "model", _under(METHOD, snapshot.tensors))
        parameters = self.adaptation.parameters(self.model)
        checkpoint.restore_optimizer(parameters, self.optimizer, snapshot.tensors, MODULES)
        if self.scaler is not None and snapshot.loss_scale is not None:
            self.scaler.load_state_dict(snapshot.loss_scale)
        restore_generators(snapshot.generators, _under(GENERATOR, snapshot.tensors))
        self.saved = (snapshot.state.step, snapshot.state.milestone)
        return snapshot.state

    def load_evaluated(self, step: int) -> None:
        """Put model and modules beside it back to what was evaluated at `step`, whose checkpoint is there."""
        path = self.directory / checkpoint_name(self.offset + step)
        self.adaptation.load(self.model, path / "model")
        self.adaptation.load_modules(_under(METHOD, checkpoint.read_tensors(path, f"{METHOD}{MODULES}")))

    def write_model(self, directory: Path, state: TrainState) -> None:
        """A Transformers directory: weights, configuration, tokenizer, and what task and preprocessing add."""
        directory.mkdir(exist_ok=True)
        self.adaptation.save(self.model, directory)
        self.base.tokenizer.save_pretrained(directory)
        task = self.task if state.best is None else self.task.tuned(state.best.detail)
        task.add_files(directory, self.max_length)
        self.preprocessed.write(directory)

    def write_artifact(self, directory: Path, state: TrainState) -> None:
        """The model as `write_model` leaves it, and what came of the methods besides."""
        self.write_model(directory, state)
        self.adaptation.add_files(self.model, directory)


def _under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _needed(state: TrainState) -> set[int]:
    """Steps of the run whose weights are needed to its end."""
    return {ended["weights_at"] for ended in state.finished.values() if ended["weights_at"] is not None}


def _newest_metrics(state: TrainState) -> dict[str, float]:
    """The newest training and validation numbers, `train_loss` and `valid_loss` among them."""
    newest: dict[str, float] = {}
    for row in state.history[-2:]:
        newest |= row
    return newest
