"""`python -m benchmarks.adaptation`: what methods of adaptation cost and come to, on SST-2 with the starter model.

LoRA beside full fine-tuning: test accuracy, share of parameters that train, size of the adapter. A frozen encoder whose
features are kept beside one that runs in every epoch: seconds and test accuracy, both in one run.
"""

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from app.catalog.hyperparameters import Hyperparameters
from benchmarks.accuracy import DATA, Job, run_job

SST2 = DATA / "sentiment" / "sst2"
FULL = Hyperparameters(n_epochs=3, batch_size=32, learning_rate=1e-4)
ADAPTER = Hyperparameters(n_epochs=3, batch_size=32, learning_rate=1e-3)
FROZEN = Hyperparameters(n_epochs=10, batch_size=32, learning_rate=1e-3)
JOBS: dict[str, tuple[dict[str, dict[str, Any]], Hyperparameters]] = {
    "full": ({}, FULL),
    "lora": ({"lora": {"r": 8, "alpha": 16.0}}, ADAPTER),
    "frozen, features kept": ({"freeze": {"layers": ["encoder"]}}, FROZEN),
    "frozen, run in every epoch": ({"freeze": {"layers": ["encoder"], "cache_features": False}}, FROZEN),
}


@dataclass(frozen=True)
class Outcome:
    """What a job came to; `adapter_bytes` where it left an adapter."""

    accuracy: float
    seconds: float
    adapter_bytes: int | None


def measure(adaptation: dict[str, dict[str, Any]], hyperparameters: Hyperparameters, seed: int) -> Outcome:
    """Train in this process; the time is that of the whole job without reading the files."""
    job = Job(
        SST2,
        ("train", "validation", "test"),
        {"type": "text-classification", "problem_type": "single_label_classification"},
        {},
        hyperparameters,
        "accuracy",
        0.0,
        adaptation,
    )
    with tempfile.TemporaryDirectory() as directory:
        began = time.monotonic()
        metrics = run_job(job, seed, Path(directory), choose=False)
        seconds = time.monotonic() - began
        adapter = Path(directory) / "artifact" / "adapter" / "adapter_model.safetensors"
        return Outcome(metrics["test"]["accuracy"], seconds, adapter.stat().st_size if adapter.exists() else None)


def main() -> None:
    """Run them one after the other and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--only", choices=("lora", "frozen"), help="one of the two comparisons")
    asked = parser.parse_args()
    if not SST2.is_dir():
        raise SystemExit("SST-2 is not beside the checkout")
    names = [name for name in JOBS if asked.only is None or name.startswith("frozen") == (asked.only == "frozen")]
    found = {name: measure(*JOBS[name], asked.seed) for name in names}
    table = Table(title=f"SST-2 on starter/minilm-l6, seed {asked.seed}")
    for heading in ("method", "test accuracy", "seconds", "adapter"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for name, outcome in found.items():
        size = "-" if outcome.adapter_bytes is None else f"{outcome.adapter_bytes / 1e6:.2f} MB"
        table.add_row(name, f"{outcome.accuracy:.4f}", f"{outcome.seconds:.1f}", size)
    console = Console()
    console.print(table)
    if asked.only != "lora":
        kept, live = found["frozen, features kept"], found["frozen, run in every epoch"]
        console.print(f"Keeping the features of a frozen encoder: {live.seconds / kept.seconds:.1f} x as fast.")


if __name__ == "__main__":
    main()
