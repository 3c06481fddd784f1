"""`python -m benchmarks.status_polling`: GET of one job with 100,000 jobs in the table, against a constant JSON.

Both answers come from the same uvicorn, the same FastAPI and the same client connection, in turns.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx
from fastapi import FastAPI
from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from app.db import SessionFactory, make_engine, migrate, session_factory, transaction
from app.embedded import start_postgres, start_redis
from app.files import service as files
from app.files.service import NewFile
from app.jobs import service
from app.jobs.service import NewJob
from app.main import create_app
from app.projects import authenticate, create_key
from app.registry.base_models import STARTER
from app.settings import Settings, environment
from app.storage.blobs import put
from app.storage.database import DatabaseBlobStore
from app.tables import Model
from examples.service import free_port

FILL = """
INSERT INTO jobs (id, project_id, kind, queue, status, spec, hyperparameters, model, seed, training_file,
                  training_preparation, max_attempts, finished_at, metrics, progress)
SELECT 'ftjob-' || lpad(to_hex(i), 30, '0'), project_id, kind, queue, 'cancelled', spec, hyperparameters, model, seed,
       training_file, training_preparation, max_attempts, now(), '{"test": {"accuracy": 0.9}}',
       '{"step": 10, "total_steps": 10, "epoch": 3.0, "examples_per_second": 100.0}'
FROM jobs, generate_series(1, :count) AS i WHERE kind = 'fine_tuning'
"""


def fill(sessions: SessionFactory, settings: Settings, count: int) -> str:
    """Make one job as a client does, multiply it, return an API key."""
    blob = put(DatabaseBlobStore(sessions), [b'{"text": "a", "label": "b"}'])
    with transaction(sessions) as session:
        _, key = create_key(session, name="benchmark")
        caller = authenticate(session, key)
        session.add(Model(id=STARTER, kind="base", family="bert", bytes=0))
        file = files.create(session, caller, NewFile("reviews.jsonl", "fine-tune", blob), settings)
        service.create(session, caller, NewJob(STARTER, file.id), settings)
        session.execute(text(FILL), {"count": count})
    return key


def make_app() -> FastAPI:
    """The service, and beside it one route that answers a constant."""
    app = create_app()
    constant = {"id": "ftjob-0", "object": "fine_tuning.job", "status": "succeeded"}
    app.add_api_route("/constant", lambda: constant, methods=["GET"])
    return app


@contextmanager
def serving(settings: Settings) -> Generator[str]:
    """Run it in a process of its own, as `tailor serve` does; yields its URL."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", "benchmarks.status_polling:make_app", f"--port={port}"]
    command += ["--loop=uvloop", "--http=httptools", "--no-access-log", "--log-level=warning"]
    with subprocess.Popen(command, env=environment(settings)) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_up(url)
            yield url
        finally:
            process.terminate()


def wait_until_up(url: str) -> None:
    """Return once it answers; gives up after 30 s."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{url}/healthz").raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit("the API did not start within 30 s")


def percentiles(times_s: list[float]) -> tuple[float, float]:
    """p50 and p99 in milliseconds."""
    cuts = statistics.quantiles(times_s, n=100)
    return cuts[49] * 1000, cuts[98] * 1000


def main() -> None:
    """Fill the table, measure in turns, print p50, p99 and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=3000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tailor-bench-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o755)
        postgres, redis = start_postgres(directory / "postgres"), start_redis(directory / "redis")
        try:
            migrate(postgres.url)
            settings = Settings(database_url=postgres.url, redis_url=redis.url, data_dir=directory)
            engine = make_engine(postgres.url)
            key = fill(session_factory(engine), settings, options.jobs)
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text("VACUUM ANALYZE jobs"))
            engine.dispose()
            paths = {
                "constant JSON": "/constant",
                "GET of one job": f"/v1/fine_tuning/jobs/ftjob-{options.jobs // 2:030x}",
            }
            times: dict[str, list[float]] = {name: [] for name in paths}
            headers = {"Authorization": f"Bearer {key}"}
            with serving(settings) as url, httpx.Client(base_url=url, headers=headers) as client:
                for turn in range(options.requests + 100):
                    for name, path in paths.items():
                        started = time.perf_counter()
                        client.get(path).raise_for_status()
                        if turn >= 100:
                            times[name].append(time.perf_counter() - started)
        finally:
            redis.stop()
            postgres.stop()
    table = Table(title=f"{options.requests} requests each in turns, {options.jobs} jobs in the table")
    for heading in ("", "p50 ms", "p99 ms"):
        table.add_column(heading, justify="right")
    base = percentiles(times["constant JSON"])
    ours = percentiles(times["GET of one job"])
    table.add_row("constant JSON", f"{base[0]:.2f}", f"{base[1]:.2f}")
    table.add_row("GET of one job", f"{ours[0]:.2f}", f"{ours[1]:.2f}")
    table.add_row("ratio", f"{ours[0] / base[0]:.2f}", f"{ours[1] / base[1]:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
