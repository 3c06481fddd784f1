"""/healthz and /readyz, and what happens to requests while a server behind the API is away."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from app.db import make_engine, migrate, session_factory, transaction
from app.embedded import start_postgres
from app.jobs import workers
from app.main import create_app
from app.projects import create_key
from app.settings import Settings
from tests.api.conftest import headers_of, serve
from tests.api.test_access import error_of

NOWHERE = "redis://127.0.0.1:1/0"


def test_a_live_process_says_so_without_a_key(anonymous) -> None:
    assert anonymous.get("/healthz").json() == {"status": "ok"}
    assert anonymous.head("/healthz").status_code == 200


def test_a_ready_process_counts_its_workers(anonymous, sessions) -> None:
    with transaction(sessions) as session:
        workers.report(session, id_="a", kind="training", host="h", pid=1)
        workers.report(session, id_="b", kind="control", host="h", pid=2)
        workers.report(session, id_="c", kind="control", host="h", pid=3)

    assert anonymous.get("/readyz").json() == {
        "status": "ok",
        "database": "ok",
        "redis": "ok",
        "workers": {"training": 1, "control": 2},
    }


def test_without_redis_all_works_and_readiness_says_degraded(api_settings: Settings, api_key: str) -> None:
    app = create_app(api_settings.model_copy(update={"redis_url": NOWHERE}))
    with TestClient(app) as client:
        ready = client.get("/readyz")
        started = time.monotonic()
        upload = client.post(
            "/v1/files", data={"purpose": "fine-tune"}, files={"file": ("a", b"x")}, headers=headers_of(api_key)
        )

    assert (ready.status_code, ready.json()["status"], ready.json()["redis"]) == (200, "degraded", "unavailable")
    assert upload.status_code == 200
    assert time.monotonic() - started < 5


@pytest.fixture
def own_database() -> Iterator[Path]:
    """A folder for a PostgreSQL that the test may stop."""
    with tempfile.TemporaryDirectory(prefix="tailor-tests-") as folder:
        yield Path(folder) / "postgres"


def test_a_database_without_tables_is_not_ready(own_database: Path, redis_url: str, tmp_path: Path) -> None:
    database = start_postgres(own_database, durable=False)
    try:
        settings = Settings(database_url=database.url, redis_url=redis_url, data_dir=tmp_path)
        with TestClient(create_app(settings)) as client:
            ready = client.get("/readyz")
            listed = client.get("/v1/files", headers=headers_of("tlr-any"))
    finally:
        database.stop()

    for response in (ready, listed):
        assert response.status_code == 503
        assert error_of(response)["code"] == "database_not_migrated"
        assert "tailor migrate" in error_of(response)["message"]


def test_while_the_database_is_away_every_request_says_so_and_afterwards_all_goes_on(
    own_database: Path, redis_url: str, tmp_path: Path
) -> None:
    database = start_postgres(own_database, durable=False)
    try:
        migrate(database.url)
        engine = make_engine(database.url)
        with transaction(session_factory(engine)) as session:
            key = create_key(session, name="test")[1]
        engine.dispose()
        app = create_app(Settings(database_url=database.url, redis_url=redis_url, data_dir=tmp_path))
        for url in serve(app):
            with httpx.Client(base_url=url, headers=headers_of(key), timeout=30) as client:
                assert client.get("/v1/files").status_code == 200
                file = upload(client).json()["id"]
                database.stop()

                away = [
                    client.get("/v1/files"),
                    client.get(f"/v1/files/{file}/content"),
                    client.get("/readyz"),
                    client.post("/v1/fine_tuning/jobs", json={"model": "m", "training_file": file}),
                    upload(client),
                ]
                assert client.get("/healthz").status_code == 200
                for response in away:
                    assert response.status_code == 503
                    assert response.headers["retry-after"] == "1"
                    assert error_of(response)["code"] == "database_unavailable"
                    assert str(own_database) not in response.text

                database = start_postgres(own_database, durable=False)
                assert client.get("/v1/files").status_code == 200
                assert upload(client).status_code == 200
                assert client.get(f"/v1/files/{file}/content").content == b"content"
    finally:
        database.stop()


def upload(client: httpx.Client) -> httpx.Response:
    return client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("a", b"content")})


def test_the_process_imports_nothing_that_trains_or_parses() -> None:
    heavy = ["torch", "transformers", "datasets", "numpy", "pyarrow", "tokenizers", "sklearn", "worker", "app.datasets"]
    code = f"import sys, app.main; app.main.create_app().openapi(); print([m for m in {heavy} if m in sys.modules])"

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "[]"
