"""`python -m benchmarks.recovery`: how soon a job goes on after its worker was killed, and obeys a pause and a cancel.

Each with the settings of `tailor up`, and with those that several machines have. The clock runs from the kill -9, or
from sending the request, to the first new step, or to the new state.
"""

import argparse
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from app.settings import Settings
from benchmarks.turnaround import DATA, idle, prepared_file
from benchmarks.victims import Victims
from examples.service import own_service

TIMEOUT_S = 240
TIMINGS = ("lease_s", "renew_s", "tick_s")


def default_timings() -> dict[str, str]:
    """The settings' own defaults, which `tailor up` shortens where nobody names them."""
    return {f"TAILOR_{name.upper()}": str(Settings.model_fields[name].default) for name in TIMINGS}


def until(condition: Callable[[], bool]) -> float:
    """Seconds until the condition is true."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > TIMEOUT_S:
            raise SystemExit(f"not within {TIMEOUT_S} s")
        time.sleep(0.02)
    return time.monotonic() - started


def measure(client: httpx.Client, victims: Victims, file_id: str) -> dict[str, float]:
    """One job on the starter model, whose worker is killed; then it is paused, resumed and cancelled."""
    request = {
        "model": "starter/minilm-l6",
        "training_file": file_id,
        "hyperparameters": {"n_epochs": 1000, "batch_size": 16, "eval_interval": 20},
    }
    path = f"/v1/fine_tuning/jobs/{client.post('/v1/fine_tuning/jobs', json=request).json()['id']}"

    def job() -> dict[str, Any]:
        return client.get(path).json()

    def resumed_at() -> int | None:
        events = client.get(f"{path}/events", params={"limit": 50}).json()["data"]
        found = [event["message"] for event in events if "resumed from step" in event["message"]]
        return int(found[0].rpartition(" ")[2]) if found else None

    def steps_on() -> bool:
        step = resumed_at()
        return step is not None and (job()["progress"] or {}).get("step", 0) > step

    until(lambda: bool(client.get(f"{path}/checkpoints").json()["data"]))
    os.kill(victims.by_role()["worker"][0].pid, signal.SIGKILL)
    seconds = {"worker killed to first new step": until(steps_on)}
    for verb, state in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
        client.post(f"{path}/{verb}").raise_for_status()
        took = until(lambda state=state: job()["status"] == state)
        if verb == "resume":
            step = job()["progress"]["step"]
            until(lambda step=step: job()["progress"]["step"] > step)
        else:
            seconds[f"{verb} of a running job"] = took
    return seconds


def main() -> None:
    """Run it and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    table = Table(title=f"Seconds, median of {options.runs} (minimum to maximum), {DATA.name} on starter/minilm-l6")
    table.add_column("settings")
    rows: list[list[str]] = []
    names: list[str] = []
    for kind, settings in (("tailor up", dict[str, str]()), ("default", default_timings())):
        with tempfile.TemporaryDirectory(prefix="tailor-bench-", ignore_cleanup_errors=True) as name:
            directory = Path(name)
            directory.chmod(0o755)
            with (
                own_service(directory / "service", settings=settings, log=directory / "log") as own,
                httpx.Client(base_url=own.url, headers={"Authorization": f"Bearer {own.key}"}, timeout=60) as client,
            ):
                file_id = prepared_file(client)
                victims = Victims(psutil.Process(own.process.pid), own.url, "")
                runs: list[dict[str, float]] = []
                for _ in range(options.runs):
                    idle(client, 8)
                    runs.append(measure(client, victims, file_id))
        names = list(runs[0])
        values = [[run[name] for run in runs] for name in names]
        rows.append([kind, *(f"{statistics.median(v):.1f} ({min(v):.1f} to {max(v):.1f})" for v in values)])
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
