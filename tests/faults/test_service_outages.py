"""Redis or PostgreSQL goes away under a whole service, for longer than a lease, and comes back."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from examples.service import Service, own_service
from tests.e2e.conftest import DATA, wait
from tests.faults.servers import Postgres, Redis

pytestmark = pytest.mark.e2e

LEASE_S = 4.0
JOBS = "/v1/fine_tuning/jobs"


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with TemporaryDirectory(prefix="tailor-faults-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def postgres(directory: Path) -> Iterator[Postgres]:
    server = Postgres(directory / "postgres")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def redis(directory: Path) -> Iterator[Redis]:
    server = Redis(directory / "redis")
    yield server
    server.stop()


# One for all these tests: a whole service needs ten seconds to start.
@pytest.fixture(scope="module")
def service(directory: Path, postgres: Postgres, redis: Redis, models_dir: Path) -> Iterator[Service]:
    settings = {
        "TAILOR_DATABASE_URL": postgres.url,
        "TAILOR_REDIS_URL": redis.url,
        "TAILOR_BASE_MODELS_DIR": str(models_dir),
        "TAILOR_LEASE_S": f"{LEASE_S:g}",
        "TAILOR_RENEW_S": "1",
        "TAILOR_TICK_S": "1",
        "TAILOR_WORKER_SLOTS": "2",
    }
    log = directory / "up.log"
    with own_service(directory / "data", settings=settings, log=log) as started:
        yield started
    print(log.read_text())


@pytest.fixture(scope="module")
def http(service: Service) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {service.key}"}
    with httpx.Client(base_url=service.url, headers=headers, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def running_job(http: httpx.Client) -> str:
    """One that trains for many minutes if it is left alone, and has begun; all these outages strike it."""
    job_id = create(http, upload(http), n_epochs=1000, eval_interval=50)
    wait(lambda: step(http, job_id) >= 1)
    return job_id


def upload(http: httpx.Client) -> str:
    rows = (DATA / "validation.jsonl").read_bytes()
    return http.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("r.jsonl", rows)}).json()["id"]


def create(http: httpx.Client, file_id: str, **hyperparameters: int) -> str:
    request = {"model": "local/tiny", "training_file": file_id, "validation_file": file_id}
    asked = request | {"hyperparameters": {"batch_size": 4} | hyperparameters}
    return http.post(JOBS, json=asked).raise_for_status().json()["id"]


def look(http: httpx.Client, job_id: str) -> dict:
    return http.get(f"{JOBS}/{job_id}").raise_for_status().json()


def step(http: httpx.Client, job_id: str) -> int:
    return (look(http, job_id)["progress"] or {}).get("step", 0)


def messages(http: httpx.Client, job_id: str) -> list[str]:
    events = http.get(f"{JOBS}/{job_id}/events", params={"limit": 100}).json()["data"]
    return [event["message"] for event in reversed(events)]


def evaluated(http: httpx.Client, job_id: str) -> list[int]:
    numbers = http.get(f"{JOBS}/{job_id}/metrics", params={"name": "accuracy"}).json()
    return [number["step"] for number in numbers if number["split"] == "validation"]


def checkpoints_on_disk(directory: Path) -> set[str]:
    return {path.name for path in directory.glob("data/runs/ftjob-*/checkpoints/step-*")}


def outlast_the_lease(directory: Path) -> None:
    """Wait until leases have run out unrenewed and the child has gone on: two checkpoints more, for instance."""
    began, seen = time.monotonic(), checkpoints_on_disk(directory)
    wait(lambda: time.monotonic() > began + LEASE_S + 1)
    wait(lambda: len(checkpoints_on_disk(directory) - seen) >= 2)


def test_without_redis_jobs_are_taken_at_once_and_run_to_their_end(http: httpx.Client, redis: Redis, running_job: str):
    file_id = upload(http)
    redis.kill()
    began = time.monotonic()
    job_id = create(http, file_id, n_epochs=1)
    assert time.monotonic() - began < 3  # benchmarks/redis_outage.py measures it
    assert http.get("/readyz").json()["redis"] == "unavailable"
    seen = step(http, running_job)
    wait(lambda: step(http, running_job) > seen)
    wait(lambda: look(http, job_id)["status"] == "succeeded")
    redis.start()
    wait(lambda: http.get("/readyz").json()["redis"] == "ok")
    assert [look(http, job)["attempt"] for job in (job_id, running_job)] == [1, 1]


def refused(response: httpx.Response) -> None:
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    error = response.json()["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    assert error["code"] == "database_unavailable"


def test_without_postgresql_a_job_goes_on_and_the_api_says_so_until_it_is_back(
    http: httpx.Client, postgres: Postgres, directory: Path, running_job: str
):
    files = http.get("/v1/files").json()["data"]
    sending, gone = threading.Event(), threading.Event()

    def body() -> Iterator[bytes]:
        head = 'Content-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b\r\nContent-Disposition: form-data; '
        yield f'--b\r\n{head}name="file"; filename="large"\r\n\r\n'.encode()
        for number in range(24):
            if number == 12:
                sending.set()
                assert gone.wait(60)
            yield bytes(1 << 20)
        yield b"\r\n--b--\r\n"

    def send() -> httpx.Response | httpx.TransportError:
        try:
            form = {"Content-Type": "multipart/form-data; boundary=b"}
            return http.post("/v1/files", content=body(), headers=form)
        except httpx.TransportError as error:  # answered and closed before all was sent
            return error

    with ThreadPoolExecutor() as executor:
        underway = executor.submit(send)
        assert sending.wait(60)
        postgres.kill()
        gone.set()
        for response in (http.get(f"{JOBS}/{running_job}"), http.get("/v1/files"), http.get("/readyz")):
            refused(response)
        refused(http.post(JOBS, json={"model": "local/tiny", "training_file": files[0]["id"]}))
        refused(http.post(f"{JOBS}/{running_job}/cancel"))
        answer = underway.result()
        if isinstance(answer, httpx.Response):
            refused(answer)
        outlast_the_lease(directory)
        refused(http.get(f"{JOBS}/{running_job}"))
        postgres.start()

    job = look(http, running_job)
    assert (job["status"], job["attempt"]) == ("running", 1)
    seen = job["progress"]["step"]
    wait(lambda: step(http, running_job) > seen + 50)
    assert look(http, running_job)["attempt"] == 1
    assert not [message for message in messages(http, running_job) if "lost" in message]
    assert http.get("/v1/files").json()["data"] == files
    measured = wait(lambda: (steps := evaluated(http, running_job)) and steps[-1] > seen and steps)
    assert measured == [*range(50, measured[-1] + 1, 50)]


def test_without_both_a_job_goes_on(
    http: httpx.Client, postgres: Postgres, redis: Redis, directory: Path, running_job: str
):
    redis.kill()
    postgres.kill()
    outlast_the_lease(directory)
    postgres.start()
    redis.start()
    seen = step(http, running_job)
    wait(lambda: step(http, running_job) > seen + 50)
    job = look(http, running_job)
    assert (job["status"], job["attempt"]) == ("running", 1)
    http.post(f"{JOBS}/{running_job}/cancel").raise_for_status()
    wait(lambda: look(http, running_job)["status"] == "cancelled")
