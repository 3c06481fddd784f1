"""`python -m benchmarks.checkpoints`: what checkpoints cost a running job, storing them in PostgreSQL included.

One service runs the same job in turns with its defaults (a checkpoint at each evaluation, so once an epoch, and every
600 s), with ten checkpoints an epoch, and with the one checkpoint that the end of a run always is. Times are the job's
own `run_seconds`, so waiting for a worker is left out.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from app.settings import Settings
from benchmarks.turnaround import idle
from examples.service import own_service

ROOT = Path(__file__).parents[1]
SST2 = ROOT.parent / "shared" / "data" / "sentiment" / "sst2" / "train.jsonl"
EXAMPLE = ROOT / "examples" / "movie_reviews" / "train.jsonl"
NEVER = 1_000_000
OFTEN = 10  # checkpoints an epoch
BATCH = 32
POLL_S = 0.2


def upload(client: httpx.Client, rows: int) -> tuple[str, int]:
    """The first rows of SST-2, or of the demo's file where that is not beside the project; its id and its rows."""
    lines = (SST2 if SST2.exists() else EXAMPLE).read_text(encoding="utf-8").splitlines()[:rows]
    stored = client.post(
        "/v1/files", data={"purpose": "fine-tune"}, files={"file": ("train.jsonl", "\n".join(lines).encode())}
    ).json()
    while stored["status"] == "uploaded":
        time.sleep(POLL_S)
        stored = client.get(f"/v1/files/{stored['id']}").json()
    return stored["id"], len(lines)


def run(client: httpx.Client, file_id: str, epochs: int, eval_interval: int | str) -> tuple[float, int]:
    """Seconds that the job ran, and how many checkpoints it wrote."""
    request = {
        "model": "starter/minilm-l6",
        "training_file": file_id,
        "seed": 13,
        "hyperparameters": {"n_epochs": epochs, "batch_size": BATCH, "eval_interval": eval_interval},
    }
    job: dict[str, Any] = client.post("/v1/fine_tuning/jobs", json=request).json()
    while job["status"] not in ("succeeded", "failed", "cancelled"):
        time.sleep(POLL_S)
        job = client.get(f"/v1/fine_tuning/jobs/{job['id']}").json()
    if job["status"] != "succeeded":
        raise SystemExit(f"the job has {job['status']}: {json.dumps(job['error'])}")
    steps = job["progress"]["total_steps"]
    interval = job["hyperparameters"]["eval_interval"]
    return job["run_seconds"], -(-steps // interval)


def main() -> None:
    """Run the jobs in turns and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rows", type=int, default=3200)
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {"off": [], "default": [], "often": []}
    written = {"off": 1, "default": 1, "often": 1}
    with tempfile.TemporaryDirectory(prefix="tailor-bench-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o755)
        with (
            own_service(directory / "service", log=directory / "log") as own,
            httpx.Client(base_url=own.url, headers={"Authorization": f"Bearer {own.key}"}, timeout=60) as client,
        ):
            file_id, rows = upload(client, options.rows)
            often = max(1, -(-rows // BATCH) // OFTEN)
            kinds: dict[str, int | str] = {"off": NEVER, "default": "auto", "often": often}
            for _ in range(options.runs):
                for kind, interval in kinds.items():
                    idle(client, 8)
                    took, written[kind] = run(client, file_id, options.epochs, interval)
                    seconds[kind].append(took)
    off = statistics.median(seconds["off"])
    each = (statistics.median(seconds["often"]) - off) / (written["often"] - written["off"])
    default_s = Settings.model_fields["checkpoint_interval_s"].default
    table = Table(title=f"{rows} rows, {options.epochs} epochs, median of {options.runs} (minimum to maximum)")
    for heading in ("checkpoints", "written", "job ran s", "more than off"):
        table.add_column(heading, justify="right")
    for kind, times in seconds.items():
        median = statistics.median(times)
        spread = f"{median:.2f} ({min(times):.2f} to {max(times):.2f})"
        table.add_row(kind, str(written[kind]), spread, f"{(median / off - 1):+.1%}")
    console = Console()
    console.print(table)
    console.print(
        f"One checkpoint costs {each:.2f} s, {each / default_s:.2%} of the time at one every {default_s:g} s."
    )


if __name__ == "__main__":
    main()
