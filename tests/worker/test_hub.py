"""Base models from a hub: a small server on loopback speaks the hub's protocol, the real hub client downloads."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from app.db import transaction
from app.registry import models
from app.tables import Model
from tests.worker.conftest import TINY

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PROVIDE = """
import pathlib, sys, threading
from app.db import make_engine, session_factory
from app.settings import Settings
from app.storage.database import DatabaseBlobStore
from worker import base_models
from worker.context import WorkerContext
from worker.process import Standby
settings = Settings()
sessions = session_factory(make_engine(settings.database_url))
standby = Standby(enabled=False)
context = WorkerContext(settings, sessions, DatabaseBlobStore(sessions), "w", threading.Event(), standby, print)
try:
    files = base_models.provide(context, sys.argv[1], pathlib.Path(sys.argv[2]) / "base")
    print(sorted(path.name for path in files.directory.iterdir()), files.tokenizer is not None)
except base_models.ModelUnavailableError as error:
    print(error)
"""
REGISTER = """
import sys, threading
from app.db import make_engine, session_factory, transaction
from app.jobs import leases, registrations
from app.projects import authenticate
from app.settings import Settings
from app.storage.database import DatabaseBlobStore
from worker.context import WorkerContext
from worker.process import Standby
from worker.supervisor import supervise
settings = Settings()
sessions = session_factory(make_engine(settings.database_url))
standby = Standby(enabled=False)
context = WorkerContext(settings, sessions, DatabaseBlobStore(sessions), "w", threading.Event(), standby, print)
with transaction(sessions) as session:
    new = registrations.NewModel("tiny", hub=sys.argv[1])
    registrations.create(session, authenticate(session, sys.argv[2]), new, settings.model_copy(update={"hub": "on"}))
with transaction(sessions) as session:
    job = leases.claim(session, owner="w", queues=["control"], lease=context.lease)
supervise(context, job)
"""


@pytest.fixture
def hub(base_models_dir: Path) -> Iterator[str]:
    files = {path.name: path.read_bytes() for path in (base_models_dir / "tiny").iterdir()}
    files["pytorch_model.bin"] = b"a pickle"

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(with_body=False)

        def do_GET(self):
            self.answer(with_body=True)

        def answer(self, *, with_body: bool):
            path = self.path.partition("?")[0]
            name = path.rpartition("/")[2]
            if path.startswith("/api/models/org/tiny"):
                siblings = [{"rfilename": name, "size": len(data)} for name, data in files.items()]
                if "/tree/" in path:
                    body = json.dumps(
                        [
                            {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                            for name, data in files.items()
                        ]
                    ).encode()
                else:
                    body = json.dumps({"id": "org/tiny", "sha": COMMIT, "siblings": siblings}).encode()
            elif path.startswith(f"/org/tiny/resolve/{COMMIT}/") and name in files:
                body = files[name]
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def provide(settings, sessions, hub: str, model: str, tmp_path: Path, *, switch: str) -> str:
    with transaction(sessions) as session:
        session.add(Model(id=model, kind="base", bytes=0))
    environment = {"TAILOR_HUB": switch}
    return in_a_process_of_its_own(settings, hub, tmp_path, environment, PROVIDE, model, str(tmp_path))


def in_a_process_of_its_own(
    settings, hub: str, tmp_path: Path, environment: dict[str, str], script: str, *arguments: str
) -> str:
    """The hub's client reads its settings once."""
    given = {
        "HF_ENDPOINT": hub,
        "HF_HOME": str(tmp_path / "hf"),
        "TAILOR_DATABASE_URL": settings.database_url,
        "TAILOR_DATA_DIR": str(tmp_path),
        "HF_HUB_OFFLINE": "0",  # other tests of this process may have switched it on
    }
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=os.environ | given | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def register(settings, sessions, api_key, hub: str, repository: str, tmp_path: Path, **environment: str) -> Model:
    environment = {"TAILOR_HUB": "on"} | environment
    in_a_process_of_its_own(settings, hub, tmp_path, environment, REGISTER, repository, api_key)
    with transaction(sessions) as session:
        return session.get_one(Model, "@default/tiny")


def test_a_repository_of_the_hub_is_registered_with_its_commit(
    settings, sessions, api_key, hub, tmp_path, base_models_dir
):
    model = register(settings, sessions, api_key, hub, "org/tiny", tmp_path)
    assert (model.status, model.problem, model.family) == ("ready", None, "bert")
    assert model.source["hub"] == "org/tiny"
    assert (model.source["revision"], model.source["left_out"]) == (COMMIT, [])
    with transaction(sessions) as session:
        stored = {file.path: file.bytes for file in models.files(session, model.id)}
    assert stored == {path.name: path.stat().st_size for path in (base_models_dir / "tiny").iterdir()}


@pytest.mark.parametrize(
    ("repository", "environment", "named"),
    [
        ("org/nothing", {}, "'org/nothing' could not be downloaded from the hub"),
        ("org/tiny", {"TAILOR_HUB": "off"}, "has TAILOR_HUB=off"),
        ("org/tiny", {"TAILOR_MAX_DECOMPRESSED_BYTES": "1000"}, "TAILOR_MAX_DECOMPRESSED_BYTES allows 1,000"),
        ("org/tiny", {"HF_ENDPOINT": "http://127.0.0.1:9"}, "could not be downloaded from the hub"),
    ],
)
def test_a_repository_that_is_not_to_be_had_leaves_its_reason(
    settings, sessions, api_key, hub, tmp_path, repository, environment, named
):
    model = register(settings, sessions, api_key, hub, repository, tmp_path, **environment)
    assert model.status == "error"
    assert named in model.problem


def test_a_hub_model_is_downloaded_without_its_pickles(settings, sessions, hub, tmp_path):
    answer = provide(settings, sessions, hub, "org/tiny", tmp_path, switch="on")
    assert "model.safetensors" in answer
    assert "pytorch_model.bin" not in answer
    assert answer.rstrip().endswith("True")


def test_a_model_the_hub_does_not_have_is_named(settings, sessions, hub, tmp_path):
    answer = provide(settings, sessions, hub, "org/nothing", tmp_path, switch="on")
    assert "'org/nothing' could not be downloaded from the hub" in answer


def test_without_the_setting_the_hub_is_never_asked(settings, sessions, hub, tmp_path):
    answer = provide(settings, sessions, hub, "org/tiny", tmp_path, switch="off")
    assert "is not on the worker" in answer


def test_a_worker_that_lacks_a_directory_says_where_it_belongs(context, sessions, tmp_path):
    from worker import base_models

    with transaction(sessions) as session:
        session.add(Model(id="local/elsewhere", kind="base", bytes=0))
    with pytest.raises(base_models.ModelUnavailableError, match="TAILOR_BASE_MODELS_DIR"):
        base_models.provide(context, "local/elsewhere", tmp_path / "base")
    assert base_models.provide(context, TINY, tmp_path / "base").tokenizer is not None
