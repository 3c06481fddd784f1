"""Question answering with the starter model: SQuAD v1.1, 4,508 training questions, 2,000 of validation as test.

`python -m benchmarks.question_answering` prepares the files as an upload would be, trains in this process and prints EM
and F1 with their intervals. `--choose` trains on a part of the training file and scores the articles that are left: for
choosing hyperparameters (as JSON in `--hyperparameters`) without a look at the test questions.
"""

import argparse
import json
import os
import random
import tempfile
import threading
from itertools import islice
from pathlib import Path
from typing import Any

from app.catalog.hyperparameters import Hyperparameters
from app.catalog.plan import DataFile, PreparationLimits, PreparationPlan, TrainingPlan
from app.datasets.prepare import prepare
from app.registry.base_models import STARTER, starter_directory
from worker.child import ENVIRONMENT
from worker.protocol import Event, Metrics, Progress, Result

DATA = Path(__file__).parents[2] / "shared" / "data" / "qa" / "squad_v1"
TEST_QUESTIONS = 2000
HELD_OUT_QUESTIONS = 600
ASKED = {"n_epochs": 2, "batch_size": 8, "learning_rate": 2e-4, "max_length": 384}
ADAPTATION: dict[str, dict[str, Any]] = {}
LIMITS = PreparationLimits(max_decompressed_bytes=1 << 30, max_row_bytes=1 << 20, memory_bytes=1 << 32, timeout_s=600)
PROGRESS_STEPS = 100


def write_splits(directory: Path, *, choose: bool) -> None:
    """`train.jsonl` and `test.jsonl`; with `choose` the test questions are some articles of the training file."""
    with (DATA / "train.jsonl").open(encoding="utf-8") as file:
        train = file.readlines()
    if choose:
        titles = sorted({json.loads(line)["title"] for line in train})
        random.Random(1).shuffle(titles)
        test: list[str] = []
        while len(test) < HELD_OUT_QUESTIONS:
            title = titles.pop()
            test += [line for line in train if json.loads(line)["title"] == title]
        train = [line for line in train if json.loads(line)["title"] in titles]
    else:
        with (DATA / "validation.jsonl").open(encoding="utf-8") as file:
            test = list(islice(file, TEST_QUESTIONS))
    for split, lines in (("train", train), ("test", test)):
        (directory / f"{split}.jsonl").write_text("".join(lines), "utf-8")


def run_job(
    run_dir: Path, hyperparameters: Hyperparameters, adaptation: dict[str, dict[str, Any]], seed: int
) -> dict[str, Any]:
    """The metrics that the job ends with."""
    os.environ.update(ENVIRONMENT)  # before torch and Transformers are imported
    from worker.training.run import run

    base = starter_directory()
    assert base is not None
    (run_dir / "base").symlink_to(base, target_is_directory=True)
    (run_dir / "data").mkdir()
    plan = TrainingPlan(
        job_id="benchmark",
        attempt=1,
        task={"type": "question-answering"},
        adaptation=adaptation,
        hyperparameters=hyperparameters,
        seed=seed,
        model=STARTER,
        fine_tuned_model="benchmark",
        base="base",
        train=_prepared(run_dir, "train"),
        validation=None,
        test=_prepared(run_dir, "test"),
    )
    events: list[Event] = []

    def emit(event: Event) -> None:
        events.append(event)
        if isinstance(event, Progress) and event.step % PROGRESS_STEPS == 0:
            print(f"  step {event.step} of {event.total_steps}, {event.examples_per_second:g} a second", flush=True)
        elif isinstance(event, Metrics) and event.split == "test":
            print(f"  {event.values}", flush=True)

    run(plan, run_dir, emit, threading.Event())
    return next(event.metrics for event in events if isinstance(event, Result))


def _prepared(run_dir: Path, split: str) -> DataFile:
    plan = PreparationPlan(
        job_id="benchmark",
        attempt=1,
        source=f"{split}.jsonl",
        filename=f"{split}.jsonl",
        task="question-answering",
        columns={},
        limits=LIMITS,
    )
    made = prepare(plan, run_dir, lambda _: None)
    path = f"data/{split}.parquet"
    (run_dir / made.records_path).rename(run_dir / path)
    return DataFile(path=path, file_id=split, filename=f"{split}.jsonl", sha256=split, rows=made.report["rows"])


def main() -> None:
    """Run the job and print its scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--choose", action="store_true", help="score held-out articles of the training file instead")
    parser.add_argument("--hyperparameters", default="{}", help="JSON, over those of the figure in the README")
    parser.add_argument("--adaptation", default=json.dumps(ADAPTATION), help="JSON, in place of the figure's")
    parser.add_argument("--seed", type=int, default=13)
    asked = parser.parse_args()
    if not DATA.is_dir():
        print("The data are not beside the checkout.")
        return
    hyperparameters = Hyperparameters.model_validate(ASKED | json.loads(asked.hyperparameters))
    with tempfile.TemporaryDirectory() as directory:
        write_splits(Path(directory), choose=asked.choose)
        scores = run_job(Path(directory), hyperparameters, json.loads(asked.adaptation), asked.seed)["test"]
    for metric, reach in (("exact_match", 0.55), ("f1", 0.68)):
        low, high = scores["intervals"][metric]
        print(
            f"{'held out' if asked.choose else 'test'} {metric} {scores[metric]:.4f} ({low:.4f} to {high:.4f}), ",
            end="",
        )
        print(f"reach {reach}")


if __name__ == "__main__":
    main()
