"""`python -m benchmarks.redis_outage`: `POST` of a job with Redis alive, frozen and dead, against one API process."""

import argparse
import os
import signal
import tempfile
import time
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from app.db import make_engine, migrate, session_factory
from app.embedded import start_postgres, start_redis
from app.settings import Settings
from benchmarks.status_polling import fill, percentiles, serving

JOB = {"model": "starter/minilm-l6"}


def post(client: httpx.Client, file_id: str, count: int) -> list[float]:
    """Seconds of each of so many `POST`s, one after the other."""
    times: list[float] = []
    for number in range(count):
        started = time.perf_counter()
        body = JOB | {"training_file": file_id, "metadata": {"number": str(number)}}
        client.post("/v1/fine_tuning/jobs", json=body).raise_for_status()
        times.append(time.perf_counter() - started)
    return times


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200)
    options = parser.parse_args()
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="tailor-bench-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o755)
        postgres, redis = start_postgres(directory / "postgres"), start_redis(directory / "redis")
        try:
            migrate(postgres.url)
            settings = Settings(database_url=postgres.url, redis_url=redis.url, data_dir=directory)
            engine = make_engine(postgres.url)
            key = fill(session_factory(engine), settings, 1)
            engine.dispose()
            headers = {"Authorization": f"Bearer {key}"}
            with serving(settings) as url, httpx.Client(base_url=url, headers=headers, timeout=60) as client:
                file_id = client.get("/v1/files").json()["data"][0]["id"]
                post(client, file_id, 20)
                times["alive"] = post(client, file_id, options.requests)
                os.kill(redis.process.pid, signal.SIGSTOP)
                times["frozen"] = post(client, file_id, options.requests)
                os.kill(redis.process.pid, signal.SIGKILL)
                times["dead"] = post(client, file_id, options.requests)
        finally:
            redis.stop()
            postgres.stop()
    table = Table(title=f"{options.requests} `POST`s of a job, one after the other")
    for heading in ("Redis", "p50 ms", "p99 ms", "p50 more than alive, ms"):
        table.add_column(heading, justify="right")
    alive = percentiles(times["alive"])[0]
    for state, measured in times.items():
        p50, p99 = percentiles(measured)
        table.add_row(state, f"{p50:.1f}", f"{p99:.1f}", f"{p50 - alive:+.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
