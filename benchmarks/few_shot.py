"""`python -m benchmarks.few_shot`: what methods come to on few labelled texts, 100 of SST-2 with the starter model.

Each seed draws its own texts. There is no validation file, so the weights are the last step's. The test file is scored
once for each method and seed; `--choose` scores the validation file instead, to choose settings by.
"""

import argparse
import json
import random
import statistics
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from app.catalog.hyperparameters import Hyperparameters
from benchmarks.accuracy import DATA, Job, run_job

SST2 = DATA / "sentiment" / "sst2"
SETTINGS = Hyperparameters(n_epochs=10, batch_size=16, learning_rate=1e-4)
METHODS: dict[str, dict[str, dict[str, Any]]] = {
    "none": {},
    "prototype": {"prototype": {}},
    "r_drop": {"r_drop": {}},
    "swa": {"swa": {}},
    "frozen": {"freeze": {"layers": ["encoder"]}},
    "frozen, prototype": {"freeze": {"layers": ["encoder"]}, "prototype": {}},
}


def measure(
    adaptation: dict[str, dict[str, Any]], hyperparameters: Hyperparameters, rows: int, seed: int, *, choose: bool
) -> float:
    """Accuracy of a model that was trained on `rows` texts."""
    lines = (SST2 / "train.jsonl").read_text("utf-8").splitlines(keepends=True)
    held_out = (SST2 / ("validation.jsonl" if choose else "test.jsonl")).read_text("utf-8")
    with tempfile.TemporaryDirectory() as directory:
        data, run_dir = Path(directory, "data"), Path(directory, "run")
        data.mkdir()
        run_dir.mkdir()
        (data / "train.jsonl").write_text("".join(random.Random(seed).sample(lines, rows)), "utf-8")
        (data / "test.jsonl").write_text(held_out, "utf-8")
        task = {"type": "text-classification", "problem_type": "single_label_classification"}
        job = Job(data, ("train", "test"), task, {}, hyperparameters, "accuracy", 0.0, adaptation)
        return run_job(job, seed, run_dir, choose=False)["test"]["accuracy"]


def main() -> None:
    """Train with each method on each seed, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--hyperparameters", type=json.loads, default={}, help="JSON that overrides the settings")
    parser.add_argument("--choose", action="store_true", help="score the validation file instead of the test file")
    asked = parser.parse_args()
    if not SST2.is_dir():
        raise SystemExit("SST-2 is not beside the checkout")
    settings = Hyperparameters.model_validate(SETTINGS.model_dump() | asked.hyperparameters)
    where = "validation" if asked.choose else "test"
    table = Table(title=f"SST-2, {asked.rows} training texts, {where} accuracy")
    for heading in ("method", "mean", *(f"seed {seed}" for seed in range(asked.seeds))):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for name in asked.only:
        found = [measure(METHODS[name], settings, asked.rows, seed, choose=asked.choose) for seed in range(asked.seeds)]
        print(f"{name}: {statistics.mean(found):.4f}", flush=True)
        table.add_row(name, f"{statistics.mean(found):.4f}", *(f"{accuracy:.4f}" for accuracy in found))
    Console().print(table)


if __name__ == "__main__":
    main()
