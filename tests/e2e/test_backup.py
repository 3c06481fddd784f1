"""A service is backed up while it works, lost, and goes on from the backup in another data directory."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from examples.service import Service, own_service
from tests.e2e.conftest import DATA, wait

pytestmark = pytest.mark.e2e

SHORT = {"model": "local/tiny", "seed": 3, "hyperparameters": {"n_epochs": 1, "batch_size": 32}}
LONG = {"model": "local/tiny", "seed": 4, "hyperparameters": {"n_epochs": 1000, "batch_size": 8, "eval_interval": 20}}


def tailor(*arguments: object) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "app.cli", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stderr


def client_of(service: Service) -> httpx.Client:
    return httpx.Client(
        base_url=service.url,
        headers={"Authorization": f"Bearer {service.key}"},
        timeout=60,
        event_hooks={"response": [lambda response: response.raise_for_status()]},
    )


def upload(http: httpx.Client, split: str) -> str:
    content = (DATA / f"{split}.jsonl").read_bytes()
    file = http.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": (f"{split}.jsonl", content)}).json()
    wait(lambda: http.get(f"/v1/files/{file['id']}").json()["status"] == "processed")
    return file["id"]


def status_is(http: httpx.Client, job_id: str, status: str) -> Callable[[], bool]:
    return lambda: http.get(f"/v1/fine_tuning/jobs/{job_id}").json()["status"] == status


def told(http: httpx.Client, job_id: str, words: str) -> Callable[[], bool]:
    def look() -> bool:
        events = http.get(f"/v1/fine_tuning/jobs/{job_id}/events?limit=100").json()["data"]
        return any(words in event["message"] for event in events)

    return look


def digest(http: httpx.Client, path: str) -> str:
    return hashlib.sha256(http.get(path).content).hexdigest()


def test_jobs_files_models_and_the_key_go_on_from_a_backup(models_dir: Path):
    with TemporaryDirectory(prefix="tailor-e2e-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o755)
        settings = {"TAILOR_BASE_MODELS_DIR": str(models_dir)}
        old, new = directory / "old", directory / "new"
        with own_service(old, settings=settings, log=directory / "old.log") as service, client_of(service) as http:
            files = {"training_file": upload(http, "train"), "validation_file": upload(http, "validation")}
            ended = http.post("/v1/fine_tuning/jobs", json=SHORT | files).json()["id"]
            wait(status_is(http, ended, "succeeded"))
            running = http.post("/v1/fine_tuning/jobs", json=LONG | files).json()["id"]
            waiting = http.post("/v1/fine_tuning/jobs", json=SHORT | files).json()["id"]
            wait(told(http, running, "Checkpoint created"))
            assert status_is(http, waiting, "queued")()
            tailor("backup", directory / "backup.zip", "--data-dir", old)
            assert status_is(http, running, "running")()
            model = http.get(f"/v1/fine_tuning/jobs/{ended}").json()["fine_tuned_model"]
            paths = [f"/v1/files/{id_}/content" for id_ in files.values()] + [f"/v1/models/{model}/archive"]
            before = {path: digest(http, path) for path in paths}
            later = http.post("/v1/fine_tuning/jobs", json=SHORT | files).json()["id"]
        tailor("restore", directory / "backup.zip", "--data-dir", new)
        assert (new / "api_key").read_text() == (old / "api_key").read_text()
        with own_service(new, settings=settings, log=directory / "new.log") as service, client_of(service) as http:
            assert {path: digest(http, path) for path in paths} == before
            assert {job["id"] for job in http.get("/v1/fine_tuning/jobs").json()["data"]} == {ended, running, waiting}
            assert later not in {ended, running, waiting}
            wait(told(http, running, "resumed from step"))
            job = http.get(f"/v1/fine_tuning/jobs/{running}").json()
            assert (job["status"], job["attempt"]) == ("running", 1)
            assert told(http, running, "Restored from the backup of ")()
            http.post(f"/v1/fine_tuning/jobs/{running}/cancel")
            wait(status_is(http, waiting, "succeeded"))
