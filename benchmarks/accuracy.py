"""What jobs on published data sets come to, with the starter model: the test file is scored once, at the end.

`python -m benchmarks.accuracy` prepares the files as an upload would be, trains in this process and prints the scores
with their intervals. Settings are chosen without the test files: `--choose` scores the validation file instead or,
where there is none, every fifth training record, which is then left out of training; of few documents a fifth in one
piece, so that hardly any is trained on and scored. `--part` is the place of that fifth. `--hyperparameters` and
`--adaptation` are tried with it.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from app.catalog.hyperparameters import Hyperparameters
from benchmarks.cells import Adaptation, Files, Training, read_lines, train

DATA = Path(__file__).parents[2] / "shared" / "data"
WNUT17 = DATA / "ner" / "wnut17"
TAGS = {"type": "token-classification", "head": "crf"}


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
    few_documents: bool = False  # the records are the sentences of a few documents, in order


def with_wnut17(task: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The adaptation by WNUT-17 as a further task of this kind, a batch of it for every batch of the job's own."""
    further = {"name": "wnut17", "task": dict(task), "training_file": "file-1"}
    return {"multi_task": {"tasks": [further], "control": False}}


def wnut17_files(adaptation: Adaptation, task: Mapping[str, str]) -> Files:
    """What a job with that adaptation reads for it; nothing for any other."""
    if "multi_task" not in adaptation:
        return {}
    return {"multi_task.tasks.0.training_file": (task, read_lines(WNUT17 / "train.jsonl"))}


JOBS = {
    "banking77": Job(
        DATA / "multiclass" / "banking77",
        ("train", "test"),
        {"type": "text-classification", "problem_type": "single_label_classification"},
        {},
        Hyperparameters(n_epochs=4, batch_size=32, learning_rate=2e-4),
        "accuracy",
        0.925,
        {"prototype": {}},
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
        WNUT17,
        ("train", "validation", "test"),
        TAGS,
        {},
        Hyperparameters(n_epochs=5, batch_size=16, learning_rate=2e-4),
        "f1",
        0.45,
        {"prototype": {}},
    ),
    "sec_filings": Job(
        DATA / "ner" / "sec_filings",
        ("train", "test"),
        TAGS,
        {},
        Hyperparameters(n_epochs=8, batch_size=16, learning_rate=2e-4),
        "f1",
        0.80,
        with_wnut17(TAGS),
        few_documents=True,
    ),
}
HELD_OUT = 5  # where a choice has no validation file: this part of the training records


def run_job(job: Job, seed: int, run_dir: Path, *, choose: bool, part: int = 0) -> dict[str, Any]:
    """The metrics that the job ends with; with `choose` those of what stands for the test file."""
    training = Training(
        job.task,
        _lines(job, choose=choose, part=part),
        job.hyperparameters,
        job.metric,
        columns=job.columns,
        adaptation=job.adaptation,
        files=wnut17_files(job.adaptation, job.task),
    )
    return train(training, seed, run_dir)


def _lines(job: Job, *, choose: bool, part: int) -> dict[str, list[str]]:
    """The lines of every split."""
    splits = {split: read_lines(job.directory / f"{split}.jsonl") for split in job.splits}
    if not choose:
        return splits
    if "validation" in splits:
        return {"train": splits["train"], "test": splits["validation"]}
    lines = splits["train"]
    length = len(lines) // HELD_OUT
    first, end, step = (part * length, (part + 1) * length, 1) if job.few_documents else (part, len(lines), HELD_OUT)
    held_out = range(first, end, step)
    left = [line for number, line in enumerate(lines) if number not in held_out]
    return {"train": left, "test": [lines[number] for number in held_out]}


def main() -> None:
    """Run the jobs asked for and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"data sets, of {', '.join(JOBS)}; without any, all")
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--choose", action="store_true", help="leave the test file alone")
    parser.add_argument(
        "--part", type=int, choices=range(HELD_OUT), default=0, help="of the training records, with --choose"
    )
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
            scores = run_job(job, asked.seed, Path(directory), choose=asked.choose, part=asked.part)["test"]
        low, high = scores["intervals"][job.metric]
        of = "held-out" if asked.choose else "test"
        print(f"{name}: {of} {job.metric} {scores[job.metric]:.4f} ({low:.4f} to {high:.4f}), reach {job.reach}")


if __name__ == "__main__":
    main()
