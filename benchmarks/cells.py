"""What the benchmarks of adaptation share: trainings in this process, and results that survive an interruption.

A cell is one training of one method on one seed. Each finished one is a line of a file, and what is there is not
trained again.
"""

import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scipy import stats

from app.catalog.hyperparameters import Hyperparameters
from app.catalog.plan import DataFile, PreparationLimits, PreparationPlan, TrainingPlan
from app.catalog.tasks import TASKS
from app.datasets.prepare import prepare
from app.registry.base_models import STARTER, starter_directory
from worker.child import ENVIRONMENT
from worker.protocol import Event, Metrics, Progress, Result

LIMITS = PreparationLimits(max_decompressed_bytes=1 << 30, max_row_bytes=1 << 20, memory_bytes=1 << 32, timeout_s=600)
PROGRESS_INTERVAL_S = 60.0
Adaptation = Mapping[str, Mapping[str, Any]]
Files = Mapping[str, tuple[Mapping[str, Any], Sequence[str]]]  # by `method.option`: a task, and records of it


@dataclass(frozen=True)
class Training:
    """What is trained on what: records are lines of JSON; `files` and `models` those that methods name, by
    `method.option`.
    """

    task: Mapping[str, Any]
    splits: Mapping[str, Sequence[str]]
    hyperparameters: Hyperparameters
    metric: str
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    adaptation: Adaptation = field(default_factory=dict[str, Mapping[str, Any]])
    target: Sequence[str] = ()
    files: Files = field(default_factory=dict[str, tuple[Mapping[str, Any], Sequence[str]]])
    models: Mapping[str, Path] = field(default_factory=dict[str, Path])


def train(job: Training, seed: int, run_dir: Path, base: Path | None = None) -> dict[str, Any]:
    """The metrics that it ends with; its model is in `run_dir/artifact`. Without `base` it begins as the starter."""
    os.environ.update(ENVIRONMENT)  # before torch and Transformers are imported
    from worker.training.run import run

    base = base or starter_directory()
    assert base is not None
    run_dir.mkdir(exist_ok=True)
    (run_dir / "base").symlink_to(base, target_is_directory=True)
    (run_dir / "data").mkdir()
    splits = {name: prepared(run_dir, name, job.task, lines, job.columns) for name, lines in job.splits.items()}
    texts = [json.dumps({"text": text}) + "\n" for text in job.target]
    plan = TrainingPlan(
        job_id="benchmark",
        attempt=1,
        task=dict(job.task),
        adaptation={name: dict(options) for name, options in job.adaptation.items()},
        hyperparameters=job.hyperparameters,
        seed=seed,
        model=STARTER,
        fine_tuned_model="benchmark",
        base="base",
        train=splits["train"],
        validation=splits.get("validation"),
        test=splits.get("test"),
        target=(prepared(run_dir, "target", {"type": "fill-mask"}, texts),) if texts else (),
        method_files={key: prepared(run_dir, key, task, lines) for key, (task, lines) in job.files.items()},
        method_models={key: str(path.resolve()) for key, path in job.models.items()},
    )
    events: list[Event] = []
    told_at = time.monotonic()

    def emit(event: Event) -> None:
        nonlocal told_at
        events.append(event)
        if isinstance(event, Progress) and time.monotonic() - told_at >= PROGRESS_INTERVAL_S:
            told_at = time.monotonic()
            print(f"    step {event.step} of {event.total_steps}, {event.examples_per_second:g} a second", flush=True)
        if isinstance(event, Metrics) and event.split != "train" and job.metric in event.values:
            stage = "" if event.stage is None else f", {event.stage}"
            print(f"    {event.split}{stage}, epoch {event.epoch:g}: {event.values[job.metric]:.4f}", flush=True)

    run(plan, run_dir, emit, threading.Event())
    return next(event.metrics for event in events if isinstance(event, Result))


def prepared(
    run_dir: Path, name: str, task: Mapping[str, Any], lines: Sequence[str], columns: Mapping[str, str] | None = None
) -> DataFile:
    """Lines of JSON as an upload would be prepared."""
    source = run_dir / f"{name}.jsonl"
    source.write_text("".join(lines), "utf-8")
    plan = PreparationPlan(
        job_id="benchmark",
        attempt=1,
        source=source.name,
        filename=source.name,
        task=task["type"],
        options=TASKS[task["type"]].reading(task),
        columns=dict(columns or {}),
        limits=LIMITS,
    )
    made = prepare(plan, run_dir, lambda _: None)
    path = f"data/{name}.parquet"
    (run_dir / made.records_path).rename(run_dir / path)
    return DataFile(path=path, file_id=name, filename=source.name, sha256=name, rows=made.report["rows"])


def kept_model(directory: Path, make: Callable[[Path], None]) -> Path:
    """The model in `directory/artifact`, which `make(directory)` leaves there where none is yet."""
    artifact = directory / "artifact"
    if not artifact.is_dir():
        shutil.rmtree(directory, ignore_errors=True)  # what an interrupted training left
        directory.mkdir(parents=True)
        make(directory)
    return artifact


def read_lines(path: Path) -> list[str]:
    """Lines of a file with their ends."""
    return path.read_text("utf-8").splitlines(keepends=True)


@dataclass
class Results:
    """Finished cells, one a line. `path` None: they are lost with the process."""

    path: Path | None
    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    @classmethod
    def of(cls, path: Path | None) -> "Results":
        """Those in the file, where there is one. A last line that was cut short counts as not there."""
        found = cls(path)
        for line in read_lines(path) if path is not None and path.exists() else []:
            if line.endswith("\n"):
                found.rows.append(json.loads(line))
        return found

    def get(self, cell: Mapping[str, Any]) -> dict[str, Any] | None:
        """The row of a cell."""
        return next((row for row in self.rows if row["cell"] == cell), None)

    def add(self, cell: Mapping[str, Any], score: float, seconds: float) -> None:
        """Keep a finished cell."""
        row = {"cell": dict(cell), "score": score, "seconds": round(seconds, 1)}
        self.rows.append(row)
        if self.path is not None:
            whole = not self.path.exists() or self.path.read_bytes()[-1:] in (b"\n", b"")
            with self.path.open("a", encoding="utf-8") as file:
                file.write(("" if whole else "\n") + json.dumps(row) + "\n")

    def score(self, cell: Mapping[str, Any]) -> float:
        """That of a finished cell."""
        row = self.get(cell)
        assert row is not None
        return row["score"]


def run_cells(
    results: Results, cells: Sequence[Mapping[str, Any]], score_of: Callable[[Mapping[str, Any], Path], float]
) -> None:
    """Train what is not finished, one after the other, with `score_of(cell, directory)`."""
    for number, cell in enumerate(cells, 1):
        if results.get(cell) is not None:
            continue
        shown = ", ".join(f"{name} {value}" for name, value in cell.items())
        print(f"[{number} of {len(cells)}] {shown}", flush=True)
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as directory:
            score = score_of(cell, Path(directory))
        seconds = time.monotonic() - began
        results.add(cell, score, seconds)
        print(f"  {score:.4f} in {seconds:.0f} s", flush=True)


def mean_and_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and its 95 % interval by Student's t; the interval of one value is unknown, and given as that value."""
    mean = sum(values) / len(values)
    if len(values) == 1:
        return mean, mean, mean
    half = float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1))
    return mean, mean - half, mean + half
