"""What jobs on published data sets come to, with the starter model: the test file is scored once, at the end.

`python -m benchmarks.accuracy` prepares the files as an upload would be, trains in this process and prints the scores
with their intervals. Settings were chosen without the test files: banking77 has no validation file and was not tuned.
"""

import argparse
import os
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.catalog.hyperparameters import Hyperparameters
from app.catalog.plan import DataFile, PreparationLimits, PreparationPlan, TrainingPlan
from app.datasets.prepare import prepare
from app.registry.base_models import STARTER, starter_directory
from worker.child import ENVIRONMENT
from worker.protocol import Event, Metrics, Result

DATA = Path(__file__).parents[2] / "shared" / "data"
LIMITS = PreparationLimits(max_decompressed_bytes=1 << 30, max_row_bytes=1 << 20, memory_bytes=1 << 32, timeout_s=600)


@dataclass(frozen=True)
class Job:
    """A data set, what a job on it asks for, and the score it has to reach on the test file."""

    directory: Path
    splits: tuple[str, ...]
    problem_type: str
    columns: dict[str, str]
    hyperparameters: Hyperparameters
    metric: str
    reach: float


JOBS = {
    "banking77": Job(
        DATA / "multiclass" / "banking77",
        ("train", "test"),
        "single_label_classification",
        {},
        Hyperparameters(n_epochs=4, batch_size=32, learning_rate=2e-4),
        "accuracy",
        0.925,
    ),
    "stsb": Job(
        DATA / "regression" / "stsb",
        ("train", "validation", "test"),
        "regression",
        {"label": "score"},
        Hyperparameters(n_epochs=4, batch_size=32, learning_rate=2e-4),
        "spearman",
        0.79,
    ),
}


def run_job(job: Job, seed: int, run_dir: Path) -> dict[str, Any]:
    """The metrics that the job ends with."""
    os.environ.update(ENVIRONMENT)  # before torch and Transformers are imported
    from worker.training.run import run

    base = starter_directory()
    assert base is not None
    (run_dir / "base").symlink_to(base, target_is_directory=True)
    (run_dir / "data").mkdir()
    files = {split: _prepared(job, split, run_dir) for split in job.splits}
    plan = TrainingPlan(
        job_id="benchmark",
        attempt=1,
        task={"type": "text-classification", "problem_type": job.problem_type},
        adaptation={},
        hyperparameters=job.hyperparameters,
        seed=seed,
        model=STARTER,
        fine_tuned_model="benchmark",
        base="base",
        train=files["train"],
        validation=files.get("validation"),
        test=files["test"],
    )
    events: list[Event] = []

    def emit(event: Event) -> None:
        events.append(event)
        if isinstance(event, Metrics) and event.split != "train":
            print(f"  {event.split}, epoch {event.epoch:g}: {job.metric} {event.values[job.metric]:.4f}", flush=True)

    run(plan, run_dir, emit, threading.Event())
    return next(event.metrics for event in events if isinstance(event, Result))


def _prepared(job: Job, split: str, run_dir: Path) -> DataFile:
    source = job.directory / f"{split}.jsonl"
    (run_dir / "source").unlink(missing_ok=True)
    (run_dir / "source").symlink_to(source)
    plan = PreparationPlan(
        job_id="benchmark",
        attempt=1,
        source="source",
        filename=source.name,
        task="text-classification",
        options={"problem_type": job.problem_type},
        columns=job.columns,
        limits=LIMITS,
    )
    made = prepare(plan, run_dir, lambda _: None)
    path = f"data/{split}.parquet"
    (run_dir / made.records_path).rename(run_dir / path)
    return DataFile(path=path, file_id=split, filename=source.name, sha256=split, rows=made.report["rows"])


def main() -> None:
    """Run the jobs asked for and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=JOBS, default=list(JOBS), help="data sets; without any, all")
    parser.add_argument("--seed", type=int, default=13)
    asked = parser.parse_args()
    for name in asked.names:
        job = JOBS[name]
        if not job.directory.is_dir():
            print(f"{name}: its data are not beside the checkout")
            continue
        print(f"{name}: {job.hyperparameters.model_dump(exclude_defaults=True)}", flush=True)
        with tempfile.TemporaryDirectory() as directory:
            scores = run_job(job, asked.seed, Path(directory))["test"]
        low, high = scores["intervals"][job.metric]
        print(f"{name}: test {job.metric} {scores[job.metric]:.4f} ({low:.4f} to {high:.4f}), reach {job.reach}")


if __name__ == "__main__":
    main()
