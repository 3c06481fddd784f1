"""The application over a real database: in process for most tests, behind a real uvicorn where the socket matters."""

import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from openai import OpenAI

from app.api.server import Server
from app.db import SessionFactory, transaction
from app.main import create_app
from app.projects import create_key
from app.settings import Settings
from app.storage.database import DatabaseBlobStore
from tests.api.scenery import Scenery
from tests.api.uploader import Uploader

MAX_FILE_BYTES = 3 * 1024 * 1024
MAX_REQUEST_BYTES = 64 * 1024


@pytest.fixture(scope="session")
def api_settings(database_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of the one application that these tests share: small limits, so that they are quickly met."""
    return Settings(
        database_url=database_url,
        redis_url=redis_url,
        data_dir=tmp_path_factory.mktemp("api"),
        max_file_bytes=MAX_FILE_BYTES,
        max_request_bytes=MAX_REQUEST_BYTES,
        base_models_dir=None,
        hub="off",
        stream_poll_s=3600,  # what comes sooner was notified
    )


@pytest.fixture(scope="session")
def app(api_settings: Settings) -> FastAPI:
    """The application."""
    return create_app(api_settings)


@pytest.fixture(scope="session")
def in_process(app: FastAPI) -> Iterator[TestClient]:
    """The application, started, without a socket."""
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def anonymous(in_process: TestClient, sessions: SessionFactory) -> TestClient:
    """A client without a key."""
    return in_process


def headers_of(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.fixture
def client(in_process: TestClient, api_key: str) -> Iterator[TestClient]:
    """A client with the key of the project `default`."""
    in_process.headers["authorization"] = f"Bearer {api_key}"
    yield in_process
    del in_process.headers["authorization"]


@pytest.fixture
def other_key(sessions: SessionFactory) -> str:
    """A key of another project."""
    with transaction(sessions) as session:
        return create_key(session, project="other", name="other")[1]


def serve(app: FastAPI, grace_s: int = 5) -> Iterator[str]:
    """The application behind uvicorn on a free loopback port. At the end requests have `grace_s` to end."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=grace_s)
    server = Server(app, config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline and thread.is_alive():
        time.sleep(0.01)
    try:
        yield url
    finally:
        server.should_exit = True
        thread.join(grace_s + 15)
        listener.close()


@pytest.fixture(scope="session")
def shared_server(api_settings: Settings) -> Iterator[str]:
    """The URL of one server for all tests that need a socket."""
    yield from serve(create_app(api_settings))


@pytest.fixture
def server(shared_server: str, sessions: SessionFactory) -> str:
    """The URL of a server; the database is emptied after the test."""
    return shared_server


@pytest.fixture
def http(server: str, api_key: str) -> Iterator[httpx.Client]:
    """Plain HTTP to the server, with a key, also from many threads at once.

    It keeps each connection: httpcore may close a spare one (more than 20, or idle for 5 s) that another thread has
    just been given, whose read then fails with EBADF.
    """
    kept = httpx.Limits(max_connections=100, max_keepalive_connections=None, keepalive_expiry=None)
    with httpx.Client(base_url=server, headers=headers_of(api_key), timeout=30, limits=kept) as client:
        yield client


@pytest.fixture
def sdk(server: str, api_key: str) -> Iterator[OpenAI]:
    """The unmodified SDK."""
    with OpenAI(base_url=f"{server}/v1", api_key=api_key) as client:
        yield client


@pytest.fixture
def scenery(client: TestClient, sessions: SessionFactory, blobs: DatabaseBlobStore) -> Scenery:
    """The workers' side, with the starter model registered."""
    scenery = Scenery(client, sessions, blobs)
    scenery.add_base_model()
    return scenery


@pytest.fixture
def over_http(http: httpx.Client, sessions: SessionFactory, blobs: DatabaseBlobStore) -> Scenery:
    """As `scenery`, with a client that goes through the socket."""
    scenery = Scenery(http, sessions, blobs)
    scenery.add_base_model()
    return scenery


@pytest.fixture
def uploader(scenery: Scenery) -> Uploader:
    """Uploads in parts, in process."""
    return Uploader(scenery)


@pytest.fixture
def remote_uploader(over_http: Scenery) -> Uploader:
    """As `uploader`, through the socket."""
    return Uploader(over_http)


@pytest.fixture
def unused_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
