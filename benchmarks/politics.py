"""`python -m benchmarks.politics`: entities of politics from 200 sentences (CrossNER, Liu et al. 2021).

A tagger of nine types is trained on 200 sentences, chosen by 541 and tested on 651: on these alone; after a tagger of
WNUT-17's 3,394 sentences, whose types are others; after continued pretraining on the texts of the training and the
validation sentences; together with WNUT-17 as a further task; and with copies in which entities give way to others.

`--models` names the folder that has the taggers of WNUT-17, or gets them. `--choose` leaves the test sentences alone
and gives the F1 on the validation sentences, to choose settings by. `--results` names a file that finished trainings
are added to; with it a run can be stopped and goes on where it was.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from app.catalog.hyperparameters import Hyperparameters
from benchmarks.accuracy import DATA, JOBS, WNUT17, with_wnut17, wnut17_files
from benchmarks.cells import Adaptation, Results, Training, kept_model, mean_and_interval, read_lines, run_cells, train

POLITICS = DATA / "ner" / "crossner_politics"
TARGET_ONLY = "target only"
PRETRAINING = {"n_epochs": 5, "use_training_texts": True}
MENTIONS = {"operations": [{"type": "mention_replacement"}], "copies": 3, "control": False}


@dataclass(frozen=True)
class Method:
    """How the sentences are learned; `wnut_first`: by a tagger of WNUT-17; `epochs`: of more records, thus fewer."""

    adaptation: Callable[[dict[str, str]], Adaptation] = field(default=lambda _: {})
    wnut_first: bool = False
    epochs: int | None = None


METHODS = {
    TARGET_ONLY: Method(),
    "WNUT-17 first": Method(wnut_first=True),
    "continued pretraining": Method(lambda _: {"continued_pretraining": PRETRAINING}),
    "multi-task": Method(with_wnut17),
    "mentions exchanged": Method(lambda _: {"augmentation": MENTIONS}, epochs=8),
    "WNUT-17 first, mentions exchanged": Method(lambda _: {"augmentation": MENTIONS}, wnut_first=True, epochs=8),
}


def splits_of(directory: Path, *names: str) -> dict[str, list[str]]:
    """Lines of the splits."""
    return {name: read_lines(directory / f"{name}.jsonl") for name in names}


def wnut_tagger(task: Mapping[str, str], seed: int, models: Path) -> Path:
    """The tagger of WNUT-17 of that seed, trained where the folder does not have it."""
    chosen = JOBS["wnut17"]

    def make(directory: Path) -> None:
        splits = splits_of(WNUT17, "train", "validation")
        first = Training(task, splits, chosen.hyperparameters, chosen.metric, adaptation=chosen.adaptation)
        train(first, seed, directory)

    return kept_model(models / f"wnut17-{task['head']}-{seed}", make)


def scorer(hyperparameters: Hyperparameters, models: Path) -> Callable[[Mapping[str, Any], Path], float]:
    """What trains a cell and gives its F1 on the sentences that it is scored by."""

    def score(cell: Mapping[str, Any], directory: Path) -> float:
        task = {"type": "token-classification", "head": cell["head"]}
        splits = splits_of(POLITICS, *dict.fromkeys(("train", "validation", cell["scored"])))
        adaptation = cell["adaptation"]
        job = Training(
            task,
            splits,
            hyperparameters.model_copy(update={"n_epochs": cell["epochs"]}),
            "f1",
            adaptation=adaptation,
            target=[" ".join(json.loads(line)["tokens"]) for line in splits["validation"]]
            if "continued_pretraining" in adaptation
            else (),
            files=wnut17_files(adaptation, task),
        )
        base = wnut_tagger(task, cell["seed"], models) if METHODS[cell["method"]].wnut_first else None
        return train(job, cell["seed"], directory / "politics", base)[cell["scored"]]["f1"]

    return score


def show(results: Results, cells: list[dict[str, Any]]) -> None:
    """A row for every method: its mean over seeds, and what it gains over the target alone."""
    methods = list(dict.fromkeys(cell["method"] for cell in cells))
    seeds = list(dict.fromkeys(cell["seed"] for cell in cells))
    found = {(cell["method"], cell["seed"]): results.score(cell) for cell in cells}
    table = Table(title=f"Entity F1 on CrossNER politics, {cells[0]['scored']} sentences, {len(seeds)} seeds")
    for heading in ("method", "mean", "95 % over seeds", f"over {TARGET_ONLY}"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for method in methods:
        mean, low, high = mean_and_interval([found[method, seed] for seed in seeds])
        gain = ""
        if method != TARGET_ONLY and TARGET_ONLY in methods:
            more, least, most = mean_and_interval([found[method, seed] - found[TARGET_ONLY, seed] for seed in seeds])
            gain = f"{100 * more:+.1f} ({100 * least:+.1f} to {100 * most:+.1f})"
        table.add_row(method, f"{mean:.4f}", f"{low:.4f} to {high:.4f}", gain)
    Console(width=120).print(table)


def main() -> None:
    """Train what is asked for and not finished, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[13, 14, 15])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--head", choices=("crf", "linear"), default="crf")
    parser.add_argument("--models", type=Path, help="folder that has the taggers of WNUT-17, or gets them")
    parser.add_argument("--choose", action="store_true", help="give the F1 on the validation sentences")
    parser.add_argument("--results", type=Path, help="JSON lines of finished trainings, added to and gone on from")
    asked = parser.parse_args()
    if not (POLITICS.is_dir() and WNUT17.is_dir()):
        raise SystemExit("CrossNER politics and WNUT-17 are not beside the checkout")
    task = {"type": "token-classification", "head": asked.head}
    cells: list[dict[str, Any]] = [
        {
            "method": method,
            "seed": seed,
            "head": asked.head,
            "epochs": METHODS[method].epochs or asked.epochs,
            "max_length": asked.max_length,
            "learning_rate": asked.learning_rate,
            "adaptation": METHODS[method].adaptation(task),
            "scored": "validation" if asked.choose else "test",
        }
        for seed in asked.seeds
        for method in asked.methods
    ]
    hyperparameters = Hyperparameters(batch_size=16, learning_rate=asked.learning_rate, max_length=asked.max_length)
    results = Results.of(asked.results)
    with tempfile.TemporaryDirectory() as directory:
        run_cells(results, cells, scorer(hyperparameters, asked.models or Path(directory)))
    show(results, cells)


if __name__ == "__main__":
    main()
