"""What a child process says to its supervisor: one JSON object a line on its standard output, and an exit code.

The supervisor writes the path of `plan.json` as the first line of the child's standard input, then `stop` to ask for a
checkpoint and a clean exit. End of file on standard input means that the supervisor is gone: the child ends at once.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

EXIT_DONE = 0
EXIT_USER_ERROR = 2
EXIT_STOPPED = 75  # EX_TEMPFAIL: stopped after a checkpoint

CHECKPOINTS = "checkpoints"  # where checkpoints lie in a run directory

ErrorKind = Literal["user_error", "resource_error", "system_error"]


@dataclass(frozen=True)
class Log:
    """A line for the job's event list."""

    type: ClassVar[str] = "log"
    message: str
    level: Literal["info", "warn", "error"] = "info"
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Started:
    """Training is about to take its first step; nothing is `auto` any more."""

    type: ClassVar[str] = "started"
    hyperparameters: dict[str, Any]
    total_steps: int
    device: str
    labels: list[str] | None
    resumed_from_step: int | None


# Of a run, beside the training of the job's task. Steps count from the first stage of a run on.
StageName = Literal["continued_pretraining", "meta_learning", "control"]


@dataclass(frozen=True)
class Progress:
    """Where training stands, in which stage. `eta_s` counts seconds to the end, evaluation included."""

    type: ClassVar[str] = "progress"
    step: int
    total_steps: int
    epoch: float
    examples_per_second: float
    eta_s: float | None
    trained_tokens: int
    stage: StageName | None = None


@dataclass(frozen=True)
class Phase:
    """What the child does between steps, such as `evaluating validation`, and how far it is: a sign of life as well.

    `eta_s` counts seconds to the end of an evaluation.
    """

    type: ClassVar[str] = "phase"
    name: str
    done: int
    total: int
    eta_s: float | None = None


@dataclass(frozen=True)
class Metrics:
    """Numbers measured at a step on one split: train, validation or test.

    `stage` is None for the task's own training.
    """

    type: ClassVar[str] = "metrics"
    split: Literal["train", "validation", "test"]
    step: int
    epoch: float
    values: dict[str, float]
    stage: StageName | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint directory (relative path). `model_path` inside it is a Transformers directory.

    `files` is its listing: whoever finds other files there does not have the checkpoint. Later ones need a `pinned`
    one, whatever else becomes of it. `task` is what its model was being trained for: another than the job's in a stage
    before the job's own.
    """

    type: ClassVar[str] = "checkpoint"
    step: int
    path: str
    model_path: str
    best: bool
    metrics: dict[str, float]
    files: dict[str, int]
    task: str
    pinned: bool = False


@dataclass(frozen=True)
class Result:
    """The job's result. Paths are relative to the run directory; `metrics` is what the job object shows.

    `artifact` is a directory, and `artifact_files` its listing; `outputs` are further files by what they are.
    """

    type: ClassVar[str] = "result"
    metrics: dict[str, Any] = field(default_factory=dict)
    artifact: str | None = None
    artifact_files: dict[str, int] = field(default_factory=dict[str, int])
    labels: list[str] | None = None
    step_metrics_csv: str | None = None
    trained_tokens: int | None = None
    records: str | None = None
    report: dict[str, Any] | None = None
    outputs: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Failure:
    """Why the child cannot go on. `data` may hold `line`, `column`, `allowed`, `problems`."""

    type: ClassVar[str] = "failure"
    kind: ErrorKind
    code: str
    message: str
    param: str | None = None
    data: dict[str, Any] = field(default_factory=dict)


Event = Log | Started | Progress | Phase | Metrics | Checkpoint | Result | Failure
EVENT_TYPES: dict[str, type[Event]] = {
    event.type: event for event in (Log, Started, Progress, Phase, Metrics, Checkpoint, Result, Failure)
}


def listing(directory: Path) -> dict[str, int]:
    """The files of a directory by their paths in it, and the bytes of each."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.stat().st_size for path in paths}


def checkpoint_name(step: int) -> str:
    """Directory name of a step's checkpoint in CHECKPOINTS; names sort as steps do."""
    return f"step-{step:08d}"


def encode(event: Event) -> str:
    """One line, newline included. NaN and infinity are not JSON and raise ValueError."""
    return json.dumps({"type": event.type, **asdict(event)}, allow_nan=False, separators=(",", ":")) + "\n"


def decode(line: str) -> Event:
    """The event of a line. Raises ValueError for anything else, with the line's beginning."""
    try:
        fields = json.loads(line)
        return EVENT_TYPES[fields.pop("type")](**fields)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an event of the child protocol ({error!r}): {line[:200]!r}") from error
