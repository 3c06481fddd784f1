"""`python -m benchmarks.turnaround`: from `POST` of a job to its first step, with and without a standby child."""

import argparse
import json
import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from examples.service import own_service

DATA = Path(__file__).parent.parent / "examples" / "movie_reviews" / "train.jsonl"
TIMEOUT_S = 120


def prepared_file(client: httpx.Client) -> str:
    """Upload the demo's training file and wait until it is prepared."""
    stored = client.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": DATA.read_bytes()}).json()
    while stored["status"] == "uploaded":
        time.sleep(0.1)
        stored = client.get(f"/v1/files/{stored['id']}").json()
    return stored["id"]


def measure(client: httpx.Client, file_id: str) -> dict[str, float]:
    """Seconds from sending the `POST` to its answer, to the first step, and to the end of a four-step job."""
    request = {
        "model": "starter/minilm-l6",
        "training_file": file_id,
        "hyperparameters": {"max_steps": 4, "batch_size": 16},
    }
    started = time.monotonic()
    job: dict[str, Any] = client.post("/v1/fine_tuning/jobs", json=request).json()
    seen = {"POST answered": time.monotonic() - started}
    deadline = started + TIMEOUT_S
    while job["status"] not in ("succeeded", "failed", "cancelled") and time.monotonic() < deadline:
        job = client.get(f"/v1/fine_tuning/jobs/{job['id']}").json()
        if "running" not in seen and job["status"] == "running":
            seen["running"] = time.monotonic() - started
        if "first step" not in seen and (job["progress"] or {}).get("step", 0) >= 1:
            seen["first step"] = time.monotonic() - started
        time.sleep(0.01)
    if job["status"] != "succeeded":
        raise SystemExit(f"the job has {job['status']}: {json.dumps(job['error'])}")
    seen["succeeded"] = time.monotonic() - started
    return seen


def idle(client: httpx.Client, seconds: float) -> None:
    """Leave the worker time to have its next standby child ready."""
    until = datetime.now().timestamp() + seconds
    while datetime.now().timestamp() < until:
        client.get("/healthz")
        time.sleep(0.2)


def main() -> None:
    """Run the jobs and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--idle", type=float, default=8.0, help="seconds between jobs")
    options = parser.parse_args()
    table = Table(title=f"Seconds after POST, median of {options.runs} (minimum to maximum)")
    for heading in ("standby", "POST answered", "running", "first step", "succeeded"):
        table.add_column(heading, justify="right")
    for standby in ("on", "off"):
        with tempfile.TemporaryDirectory(prefix="tailor-bench-", ignore_cleanup_errors=True) as name:
            directory = Path(name)
            directory.chmod(0o755)
            with (
                own_service(directory / "service", settings={"TAILOR_STANDBY": standby}, log=directory / "log") as own,
                httpx.Client(base_url=own.url, headers={"Authorization": f"Bearer {own.key}"}, timeout=60) as client,
            ):
                file_id = prepared_file(client)
                runs: list[dict[str, float]] = []
                for _ in range(options.runs):
                    idle(client, options.idle)
                    runs.append(measure(client, file_id))
        cells = [
            f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"
            for moment in ("POST answered", "running", "first step", "succeeded")
            if (times := [run[moment] for run in runs])
        ]
        table.add_row(standby, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
