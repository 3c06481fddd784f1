"""What jobs on published data sets come to, with the starter model: the test file is scored once, at the end.

`python -m benchmarks.accuracy` prepares the files as an upload would be, trains in this process and prints the scores
with their intervals. Settings are chosen without the test files: `--choose` scores the validation file instead or,
where there is none, every fifth training record, which is then left out of training; `--hyperparameters` and
`--adaptation` are tried with it. banking77 was not tuned.
"""

import argparse
import json
import os
import tempfile
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from app.catalog.hyperparameters import Hyperparameters
from app.catalog.plan import DataFile, PreparationLimits, PreparationPlan, TrainingPlan
from app.catalog.tasks import TASKS
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
    task: dict[str, str]
    columns: dict[str, str]
    hyperparameters: Hyperparameters
    metric: str
    reach: float
    adaptation: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])


JOBS = {
    "banking77": Job(
        DATA / "multiclass" / "banking77",
        ("train", "test"),
        {"type": "text-classification", "problem_type": "single_label_classification"},
        {},
        Hyperparameters(n_epochs=4, batch_size=32, learning_rate=2e-4),
        "accuracy",
        0.925,
    ),
    "stsb": Job(
        DATA / "regression" / "stsb",
        ("train", "validation", "test"),
        {"type": "text-classification", "problem_type": "regression"},
        {"label": "score"},
        Hyperparameters(n_epochs=4, batch_size=32, learning_rate=2e-4),
        "spearman",
        0.79,
    ),
    "wnut17": Job(
        DATA / "ner" / "wnut17",
        ("train", "validation", "test"),
        {"type": "token-classification", "head": "crf"},
        {},
        Hyperparameters(n_epochs=5, batch_size=16, learning_rate=2e-4),
        "f1",
        0.45,
    ),
    "sec_filings": Job(
        DATA / "ner" / "sec_filings",
        ("train", "test"),
        {"type": "token-classification", "head": "crf"},
        {},
        Hyperparameters(n_epochs=8, batch_size=16, learning_rate=2e-4),
        "f1",
        0.80,
    ),
}
HELD_OUT = 5  # where a choice has no validation file: every such training record


def run_job(job: Job, seed: int, run_dir: Path, *, choose: bool) -> dict[str, Any]:
    """The metrics that the job ends with; with `choose` those of what stands for the test file."""
    os.environ.update(ENVIRONMENT)  # before torch and Transformers are imported
    from worker.training.run import run

    base = starter_directory()
    assert base is not None
    (run_dir / "base").symlink_to(base, target_is_directory=True)
    (run_dir / "data").mkdir()
    for split, lines in _lines(job, choose=choose).items():
        (run_dir / f"{split}.jsonl").write_text("".join(lines), "utf-8")
    files = {path.stem: _prepared(job, path.stem, run_dir) for path in sorted(run_dir.glob("*.jsonl"))}
    plan = TrainingPlan(
        job_id="benchmark",
        attempt=1,
        task=job.task,
        adaptation=job.adaptation,
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


def _lines(job: Job, *, choose: bool) -> dict[str, list[str]]:
    """The lines of every split."""
    splits = {
        split: (job.directory / f"{split}.jsonl").read_text("utf-8").splitlines(keepends=True) for split in job.splits
    }
    if not choose:
        return splits
    if "validation" in splits:
        return {"train": splits["train"], "test": splits["validation"]}
    left = [line for number, line in enumerate(splits["train"]) if number % HELD_OUT]
    return {"train": left, "test": splits["train"][::HELD_OUT]}


def _prepared(job: Job, split: str, run_dir: Path) -> DataFile:
    name = f"{split}.jsonl"
    plan = PreparationPlan(
        job_id="benchmark",
        attempt=1,
        source=name,
        filename=name,
        task=job.task["type"],
        options=TASKS[job.task["type"]].reading(job.task),
        columns=job.columns,
        limits=LIMITS,
    )
    made = prepare(plan, run_dir, lambda _: None)
    path = f"data/{split}.parquet"
    (run_dir / made.records_path).rename(run_dir / path)
    return DataFile(path=path, file_id=split, filename=name, sha256=split, rows=made.report["rows"])


def main() -> None:
    """Run the jobs asked for and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"data sets, of {', '.join(JOBS)}; without any, all")
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--choose", action="store_true", help="leave the test file alone")
    parser.add_argument("--hyperparameters", default="{}", help="JSON, over those of the job")
    parser.add_argument("--adaptation", help="JSON, in place of the job's")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(JOBS):
        parser.error(f"no data set is called {', '.join(unknown)}; there are {', '.join(JOBS)}")
    for name in asked.names or JOBS:
        job = JOBS[name]
        settings = job.hyperparameters.model_dump() | json.loads(asked.hyperparameters)
        adaptation = job.adaptation if asked.adaptation is None else json.loads(asked.adaptation)
        job = replace(job, hyperparameters=Hyperparameters.model_validate(settings), adaptation=adaptation)
        if not job.directory.is_dir():
            print(f"{name}: its data are not beside the checkout")
            continue
        print(f"{name}: {job.hyperparameters.model_dump(exclude_defaults=True)} {job.adaptation or ''}", flush=True)
        with tempfile.TemporaryDirectory() as directory:
            scores = run_job(job, asked.seed, Path(directory), choose=asked.choose)["test"]
        low, high = scores["intervals"][job.metric]
        of = "held-out" if asked.choose else "test"
        print(f"{name}: {of} {job.metric} {scores[job.metric]:.4f} ({low:.4f} to {high:.4f}), reach {job.reach}")


if __name__ == "__main__":
    main()
