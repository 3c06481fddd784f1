"""Translation with a small model from random weights, and summarization with the starter, whose weights begin both
an encoder and a decoder.

`python -m benchmarks.written_texts` prepares the files as an upload would be, trains in this process and prints the
scores of the test files with their intervals, beside what no model needs to be trained for: the text itself as its
translation (Tatoeba, English to Chinese) and its first sentence as its summary (SciTLDR, the best of all references).
Neither model has ever written: one that has would do far better. `--rows` bounds the training rows, `--choose` scores
the validation files instead, for choosing hyperparameters (as JSON in `--hyperparameters`).
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.catalog.hyperparameters import Hyperparameters
from benchmarks.accuracy import DATA
from benchmarks.cells import Training, read_lines, train


@dataclass(frozen=True)
class Job:
    """A data set, what a job on it asks for, and the metrics that are shown."""

    directory: Path
    task: dict[str, Any]
    hyperparameters: dict[str, Any]
    metrics: tuple[str, ...]


JOBS = {
    "tatoeba": Job(
        DATA / "translation" / "tatoeba_en_zh",
        {"type": "translation", "source_language": "en", "target_language": "zh", "max_target_length": 48},
        {"n_epochs": 20, "batch_size": 64, "learning_rate": 1e-3, "label_smoothing": 0.1, "max_length": 64},
        ("bleu", "chrf", "ter"),
    ),
    "scitldr": Job(
        DATA / "summarization" / "scitldr_a",
        {"type": "summarization", "max_target_length": 48},
        {"n_epochs": 4, "batch_size": 16, "learning_rate": 5e-4, "max_length": 320},
        ("rouge1", "rouge2", "rougeL"),
    ),
}


def run_job(
    job: Job, lines: dict[str, list[str]], directory: Path, hyperparameters: Hyperparameters, seed: int
) -> dict[str, Any]:
    """The metrics of the split `test` that the job ends with."""
    base: Path | None = None
    if job.task["type"] == "translation":
        from benchmarks.small_writer import write_small_writer

        base, rows = directory / "writer", map(json.loads, lines["train"])
        write_small_writer(base, [text for row in rows for text in (row["source"], row["target"])])
    training = Training(job.task, lines, hyperparameters, job.metrics[0])
    return train(training, seed, directory / "run", base)["test"]


def baseline(job: Job, lines: Sequence[str], seed: int) -> dict[str, float]:
    """Scores of the copied text, or of the first sentence."""
    from worker.training.summary_metrics import sentence_lines, summary_scores
    from worker.training.translation_metrics import corpus_scores

    rows = [json.loads(line) for line in lines]
    if job.task["type"] == "translation":
        copied = [row["source"] for row in rows]
        return corpus_scores(copied, [row["target"] for row in rows], "zh", seed).values
    first = [sentence_lines(row["document"]).split("\n")[0] for row in rows]
    references = [row.get("references") or [row["summary"]] for row in rows]
    return summary_scores(first, references, "english", seed).values


def main() -> None:
    """Run the jobs asked for and print a line for each metric."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"data sets, of {', '.join(JOBS)}; without any, all")
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--rows", type=int, help="training rows; without, all")
    parser.add_argument("--choose", action="store_true", help="leave the test file alone")
    parser.add_argument("--hyperparameters", default="{}", help="JSON, over those of the job")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(JOBS):
        parser.error(f"no data set is called {', '.join(unknown)}; there are {', '.join(JOBS)}")
    for name in asked.names or JOBS:
        job = JOBS[name]
        if not job.directory.is_dir():
            print(f"{name}: its data are not beside the checkout")
            continue
        hyperparameters = Hyperparameters.model_validate(job.hyperparameters | json.loads(asked.hyperparameters))
        tested = "validation" if asked.choose else "test"
        with tempfile.TemporaryDirectory() as directory:
            lines = {
                "train": read_lines(job.directory / "train.jsonl")[: asked.rows],
                "test": read_lines(job.directory / f"{tested}.jsonl"),
            }
            scores = run_job(job, lines, Path(directory), hyperparameters, asked.seed)
        without = baseline(job, lines["test"], asked.seed)
        for shown in scores["predictions"][:3]:
            print(f"  {shown['prediction']!r}")
        print(f"{name}: {scores['signatures']}")
        for metric in job.metrics:
            low, high = scores["intervals"][metric]
            print(f"{name}: {tested} {metric} {scores[metric]:.4f} ({low:.4f} to {high:.4f}), ", end="")
            print(f"{'copied' if job.task['type'] == 'translation' else 'lead-1'} {without[metric]:.4f}", flush=True)


if __name__ == "__main__":
    main()
