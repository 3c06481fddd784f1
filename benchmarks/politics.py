"""`python -m benchmarks.politics`: entities of politics from 200 sentences (CrossNER, Liu et al. 2021).

A tagger of nine types is trained on 200 sentences, chosen by 541 and tested on 651: on these alone; after a tagger of
WNUT-17's 3,394 sentences, whose types are others; after continued pretraining on the texts of the training and the
validation sentences; and together with WNUT-17 as a further task.

`--results` names a file that finished trainings are added to; with it a run can be stopped and goes on where it was.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from app.catalog.hyperparameters import Hyperparameters
from benchmarks.accuracy import DATA, JOBS, WNUT17, with_wnut17, wnut17_files
from benchmarks.cells import Adaptation, Results, Training, mean_and_interval, read_lines, run_cells, train

POLITICS = DATA / "ner" / "crossner_politics"
TARGET_ONLY = "target only"
WNUT_FIRST = "WNUT-17 first"
PRETRAINING = {"n_epochs": 5, "use_training_texts": True}

METHODS: dict[str, Callable[[dict[str, str]], Adaptation]] = {
    TARGET_ONLY: lambda _: {},
    WNUT_FIRST: lambda _: {},
    "continued pretraining": lambda _: {"continued_pretraining": PRETRAINING},
    "multi-task": with_wnut17,
}


def splits_of(directory: Path, *names: str) -> dict[str, list[str]]:
    """Lines of the splits."""
    return {name: read_lines(directory / f"{name}.jsonl") for name in names}


def scorer(hyperparameters: Hyperparameters) -> Callable[[Mapping[str, Any], Path], float]:
    """What trains a cell and gives its F1 on the test sentences."""

    def score(cell: Mapping[str, Any], directory: Path) -> float:
        task = {"type": "token-classification", "head": cell["head"]}
        splits = splits_of(POLITICS, "train", "validation", "test")
        adaptation = METHODS[cell["method"]](task)
        base: Path | None = None
        if cell["method"] == WNUT_FIRST:
            chosen = JOBS["wnut17"]
            first = Training(
                task,
                splits_of(WNUT17, "train", "validation"),
                chosen.hyperparameters,
                chosen.metric,
                adaptation=chosen.adaptation,
            )
            train(first, cell["seed"], directory / "first")
            base = directory / "first" / "artifact"
        job = Training(
            task,
            splits,
            hyperparameters,
            "f1",
            adaptation=adaptation,
            target=[" ".join(json.loads(line)["tokens"]) for line in splits["validation"]]
            if "continued_pretraining" in adaptation
            else (),
            files=wnut17_files(adaptation, task),
        )
        return train(job, cell["seed"], directory / "politics", base)["test"]["f1"]

    return score


def show(results: Results, cells: list[dict[str, Any]]) -> None:
    """A row for every method: its mean over seeds, and what it gains over the target alone."""
    methods = list(dict.fromkeys(cell["method"] for cell in cells))
    seeds = list(dict.fromkeys(cell["seed"] for cell in cells))
    found = {(cell["method"], cell["seed"]): results.score(cell) for cell in cells}
    table = Table(title=f"Entity F1 on CrossNER politics, {len(seeds)} seeds")
    for heading in ("method", "mean", "95 % over seeds", f"over {TARGET_ONLY}"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for method in methods:
        mean, low, high = mean_and_interval([found[method, seed] for seed in seeds])
        gain = ""
        if method != TARGET_ONLY and TARGET_ONLY in methods:
            more, least, most = mean_and_interval([found[method, seed] - found[TARGET_ONLY, seed] for seed in seeds])
            gain = f"{100 * more:+.1f} ({100 * least:+.1f} to {100 * most:+.1f})"
        table.add_row(method, f"{mean:.4f}", f"{low:.4f} to {high:.4f}", gain)
    Console().print(table)


def main() -> None:
    """Train what is asked for and not finished, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[13, 14, 15])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--head", choices=("crf", "linear"), default="crf")
    parser.add_argument("--results", type=Path, help="JSON lines of finished trainings, added to and gone on from")
    asked = parser.parse_args()
    if not (POLITICS.is_dir() and WNUT17.is_dir()):
        raise SystemExit("CrossNER politics and WNUT-17 are not beside the checkout")
    settings = {
        "head": asked.head,
        "epochs": asked.epochs,
        "max_length": asked.max_length,
        "learning_rate": asked.learning_rate,
    }
    cells: list[dict[str, Any]] = [
        {"method": method, "seed": seed, **settings} for seed in asked.seeds for method in asked.methods
    ]
    hyperparameters = Hyperparameters(
        n_epochs=asked.epochs, batch_size=16, learning_rate=asked.learning_rate, max_length=asked.max_length
    )
    results = Results.of(asked.results)
    run_cells(results, cells, scorer(hyperparameters))
    show(results, cells)


if __name__ == "__main__":
    main()
