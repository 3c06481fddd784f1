"""Everything a run needs to go on as if it had never stopped, in one self-contained directory.

`checkpoints/step-00000120/model/` is a Transformers directory, `state/` holds the rest: `tensors.safetensors`
(optimizer moments, torch's generators) and `state.json`. Nothing is pickled. A directory appears by rename, complete or
not at all. The state names the best step so far, whose directory must lie beside it for a resume.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from worker.protocol import StageName, checkpoint_name, listing

FORMAT = 1
ADDED = frozenset({"stage", "offset", "finished"})  # fields of a state that checkpoints of earlier versions lack
KEPT = "state/kept"  # the folder of a checkpoint in which methods leave files


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be gone on from; the message names what is missing or different."""


@dataclass(frozen=True)
class Best:
    """The best evaluation so far; its weights are in the checkpoint of `step`."""

    step: int
    values: dict[str, float]
    detail: dict[str, Any]


@dataclass
class TrainState:
    """Where a run stands, apart from tensors. The sampler's position follows from `step`.

    Steps are those of the present `stage`, None for the task's own; `offset` steps of the run came before it. With no
    step done, a checkpoint stands between two stages: it has the weights that the last one ended with, and no more.
    `finished` is what came of the stages before, by name.
    """

    stage: StageName | None = None
    offset: int = 0
    finished: dict[str, Any] = field(default_factory=dict[str, Any])
    step: int = 0
    milestone: int = 0  # the last step whose evaluation and checkpoint are done
    trained_tokens: int = 0
    evaluations_without_gain: int = 0
    best: Best | None = None
    history: list[dict[str, float]] = field(default_factory=list)  # rows of the step metrics file
    unlogged: list[dict[str, float]] = field(default_factory=list)  # steps since the last row


@dataclass(frozen=True)
class Snapshot:
    """A checkpoint in memory. `run` is what must be the same for both parts of a resumed run to be one."""

    state: TrainState
    run: dict[str, Any]
    generators: dict[str, Any]
    loss_scale: dict[str, Any] | None
    tensors: dict[str, torch.Tensor]


def save(
    checkpoints: Path, snapshot: Snapshot, write_model: Callable[[Path], None], keep: Callable[[Path], None]
) -> tuple[Path, dict[str, int]]:
    """Write the checkpoint of where the run stands; returns its directory and its listing.

    `keep` writes further files of the state into the folder it is given.
    """
    checkpoints.mkdir(exist_ok=True)
    target = checkpoints / checkpoint_name(snapshot.state.offset + snapshot.state.step)
    draft = checkpoints / f".draft-{target.name}"
    _remove(draft)
    (draft / KEPT).mkdir(parents=True)
    write_model(draft / "model")
    keep(draft / KEPT)
    save_file({name: t.contiguous() for name, t in snapshot.tensors.items()}, draft / "state" / "tensors.safetensors")
    content = {
        "format": FORMAT,
        "state": asdict(snapshot.state),
        "run": snapshot.run,
        "generators": snapshot.generators,
        "loss_scale": snapshot.loss_scale,
        "tensors": sorted(snapshot.tensors),
        "files": {str(path.relative_to(draft)): path.stat().st_size for path in _files(draft)},
    }
    (draft / "state" / "state.json").write_text(json.dumps(content, allow_nan=False), "utf-8")
    return target, publish(draft, target)


def publish(draft: Path, target: Path) -> dict[str, int]:
    """Make a finished directory appear under its name: on disk first, then visible. Returns its listing."""
    files = listing(draft)
    for path in [*(draft / name for name in files), *(path for path in draft.rglob("*") if path.is_dir()), draft]:
        _sync(path)
    replaced = target.with_name(f".replaced-{target.name}")
    _remove(replaced)
    if target.exists():
        target.rename(replaced)
    draft.rename(target)
    _sync(target.parent)
    _remove(replaced)
    return files


def read_state(directory: Path) -> TrainState:
    """Where the run stood, without its tensors. Raises CheckpointError for a state that cannot be read."""
    return _state(_content(directory))


def _content(directory: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads((directory / "state" / "state.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{directory.name} has no readable state/state.json: {error}") from error
    if content.get("format") != FORMAT:
        raise CheckpointError(f"{directory.name} has format {content.get('format')!r}; this version reads {FORMAT}")
    _require(directory, "keys", {"state", "run", "generators", "loss_scale", "tensors", "files"} - set(content))
    _require(directory, "state keys", {item.name for item in fields(TrainState)} - set(content["state"]) - ADDED)
    return content


def _state(content: dict[str, Any]) -> TrainState:
    best = content["state"]["best"]
    return TrainState(**content["state"] | {"best": None if best is None else Best(**best)})


def load(directory: Path, run: dict[str, Any]) -> Snapshot:
    """Read a checkpoint back. Raises CheckpointError if anything is missing, or if it is of another run than `run`."""
    content = _content(directory)
    broken = {
        name
        for name, size in content["files"].items()
        if not (directory / name).is_file() or (directory / name).stat().st_size != size
    }
    _require(directory, "files (absent or cut short)", broken)
    different = {key for key in run.keys() | content["run"].keys() if run.get(key) != content["run"].get(key)}
    if different:
        pairs = ", ".join(f"{key}: {content['run'].get(key)!r} then, {run.get(key)!r} now" for key in sorted(different))
        raise CheckpointError(f"{directory.name} belongs to another run ({pairs})")
    tensors = load_file(directory / "state" / "tensors.safetensors")
    _require(directory, "tensors", set(content["tensors"]) - set(tensors))
    state = _state(content)
    best_name = checkpoint_name(state.offset + (state.best.step if state.best else 0))
    if state.best is not None and not (directory.with_name(best_name) / "model").is_dir():
        raise CheckpointError(
            f"{directory.name} names step {state.best.step} as the best so far, but {best_name}/model is not beside it"
        )
    return Snapshot(state, content["run"], content["generators"], content["loss_scale"], tensors)


def read_tensors(directory: Path, prefix: str) -> dict[str, torch.Tensor]:
    """Those tensors of a checkpoint whose names start with `prefix`."""
    with safe_open(directory / "state" / "tensors.safetensors", "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118


def prune(checkpoints: Path, keep: set[int]) -> None:
    """Remove every checkpoint but those of the steps in `keep`, and drafts that a killed run left.

    A checkpoint first loses its name: whoever is copying it meanwhile finds it whole or not at all.
    """
    kept = {checkpoint_name(step) for step in keep}
    for path in checkpoints.iterdir():
        if path.name not in kept:
            unnamed = path if path.name.startswith(".") else path.rename(path.with_name(f".removed-{path.name}"))
            _remove(unnamed)


def optimizer_tensors(
    parameters: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> dict[str, torch.Tensor]:
    """The optimizer's state as `optimizer/<parameter>/<moment>`."""
    return {
        f"optimizer/{name}/{moment}": tensor.detach().cpu()
        for name, parameter in parameters.items()
        for moment, tensor in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(
    parameters: Mapping[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    tensors: dict[str, torch.Tensor],
    beside: str,
) -> None:
    """Put the moments back. Raises CheckpointError naming parameters of the model that have none.

    Those whose names start with `beside` have none until their first gradient, which not every step has.
    """
    trained = {
        name: parameter
        for name, parameter in parameters.items()
        if parameter.requires_grad
        if not name.startswith(beside) or f"optimizer/{name}/step" in tensors
    }
    moments = ("step", "exp_avg", "exp_avg_sq")
    wanted = {f"optimizer/{name}/{moment}" for name in trained for moment in moments}
    if missing := sorted(wanted - set(tensors)):
        raise CheckpointError(f"the checkpoint has no {', '.join(missing[:5])} ({len(missing)} tensors are missing)")
    for name, parameter in trained.items():
        optimizer.state[parameter] = {
            moment: tensors[f"optimizer/{name}/{moment}"].to(parameter.device) for moment in moments
        }


def _require(directory: Path, what: str, missing: set[str]) -> None:
    if missing:
        raise CheckpointError(f"{directory.name} is incomplete; missing {what}: {', '.join(sorted(missing))}")


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
