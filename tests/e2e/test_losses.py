"""Processes of a stack of its own are killed; the jobs survive."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import psutil
import pytest

from examples.service import Service, own_service
from tests.e2e.conftest import DATA, having, running, wait

pytestmark = pytest.mark.e2e


@pytest.fixture
def directory() -> Iterator[Path]:
    with TemporaryDirectory(prefix="tailor-e2e-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


def start(directory: Path, models_dir: Path):
    settings = {"TAILOR_BASE_MODELS_DIR": str(models_dir)}
    return own_service(directory / "data", settings=settings, log=directory / "up.log")


def client_of(service: Service) -> httpx.Client:
    return httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {service.key}"}, timeout=60)


def long_job(http: httpx.Client) -> str:
    """A job that trains for minutes if it is left alone; returns once it has made a step."""
    rows = (DATA / "validation.jsonl").read_bytes()
    file = http.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("r.jsonl", rows)}).json()
    request = {
        "model": "local/tiny",
        "training_file": file["id"],
        "validation_file": file["id"],
        "hyperparameters": {"n_epochs": 1000, "batch_size": 4, "eval_interval": 100},
    }
    job = http.post("/v1/fine_tuning/jobs", json=request).raise_for_status().json()
    wait(lambda: (look(http, job["id"])["progress"] or {}).get("step", 0) >= 1)
    return job["id"]


def look(http: httpx.Client, job_id: str) -> dict:
    return http.get(f"/v1/fine_tuning/jobs/{job_id}").raise_for_status().json()


def messages(http: httpx.Client, job_id: str) -> list[str]:
    events = http.get(f"/v1/fine_tuning/jobs/{job_id}/events", params={"limit": 100}).json()["data"]
    return [event["message"] for event in events]


def process(service: Service, *words: str) -> psutil.Process:
    tree = psutil.Process(service.process.pid).children(recursive=True)
    return next(iter(having(tree, *words)))


def test_a_killed_worker_costs_an_attempt_and_nothing_else(directory: Path, models_dir: Path):
    with start(directory, models_dir) as service, client_of(service) as http:
        job_id = long_job(http)
        wait(lambda: any("Checkpoint created" in message for message in messages(http, job_id)))
        tree = psutil.Process(service.process.pid).children(recursive=True)
        worker = next(iter(having(tree, "worker.main", without="--control")))
        trainers = having(tree, "worker.child")
        worker.send_signal(signal.SIGKILL)
        killed_at = time.monotonic()
        wait(lambda: not running(trainers))
        wait(lambda: look(http, job_id)["attempt"] == 2 and any("resumed" in m for m in messages(http, job_id)))
        print(f"resumed {time.monotonic() - killed_at:.1f} s after the worker was killed")
        http.post(f"/v1/fine_tuning/jobs/{job_id}/cancel").raise_for_status()
        wait(lambda: look(http, job_id)["status"] == "cancelled")


def test_ctrl_c_drains_and_the_next_start_goes_on(directory: Path, models_dir: Path):
    with start(directory, models_dir) as service, client_of(service) as http:
        job_id = long_job(http)
        tree = psutil.Process(service.process.pid).children(recursive=True)
    assert service.process.returncode == 0, (directory / "up.log").read_text()
    assert running(tree) == []
    with start(directory, models_dir) as again, client_of(again) as http:
        assert again.key == service.key
        wait(lambda: any("resumed from step" in message for message in messages(http, job_id)))
        job = look(http, job_id)
        assert (job["status"], job["attempt"]) == ("running", 1)
        http.post(f"/v1/fine_tuning/jobs/{job_id}/cancel").raise_for_status()
        wait(lambda: look(http, job_id)["status"] == "cancelled")


def test_a_killed_stack_leaves_no_process_and_starts_again(directory: Path, models_dir: Path):
    with start(directory, models_dir) as service, client_of(service) as http:
        job_id = long_job(http)
        tree = psutil.Process(service.process.pid).children(recursive=True)
        os.kill(service.process.pid, signal.SIGKILL)
        service.process.wait()
        wait(lambda: not running(tree))
    with start(directory, models_dir) as again, client_of(again) as http:
        wait(lambda: look(http, job_id)["attempt"] == 2)
        http.post(f"/v1/fine_tuning/jobs/{job_id}/cancel").raise_for_status()
        wait(lambda: look(http, job_id)["status"] == "cancelled")


@pytest.mark.parametrize("words", [("serve",), ("--control",)])
def test_a_killed_process_is_started_again(directory: Path, models_dir: Path, words: tuple[str, ...]):
    with start(directory, models_dir) as service, client_of(service) as http:
        victim = process(service, *words)
        victim.send_signal(signal.SIGKILL)

        def works() -> bool:
            try:
                return process(service, *words).pid != victim.pid and http.get("/readyz").status_code == 200
            except (httpx.HTTPError, StopIteration, psutil.Error):
                return False

        wait(works)
        job_id = long_job(http)
        http.post(f"/v1/fine_tuning/jobs/{job_id}/cancel").raise_for_status()
        wait(lambda: look(http, job_id)["status"] == "cancelled")
