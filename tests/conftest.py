"""What most tests stand on: one real PostgreSQL and one real Redis per run, emptied after each test that used them."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from app.db import SessionFactory, close_engine, make_engine, migrate, session_factory, transaction
from app.embedded import start_postgres, start_redis
from app.projects import Caller, authenticate, create_key
from app.settings import Settings
from app.storage.database import DatabaseBlobStore
from app.tables import Base


def pytest_configure() -> None:
    """A shell that starts tests in the background has them ignore Ctrl-C, and so would every program they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def database_url() -> Iterator[str]:
    """A migrated database: TAILOR_TEST_DATABASE_URL, or one of our own that ends with the run.

    It does not lie in pytest's folder: started by root, PostgreSQL runs as another user, and every pytest that starts
    on this machine takes the right to enter that folder away from others.
    """
    given = os.environ.get("TAILOR_TEST_DATABASE_URL")
    if given:
        migrate(given)
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="tailor-tests-") as folder:
        server = start_postgres(Path(folder) / "postgres", durable=False)
        try:
            migrate(server.url)
            yield server.url
        finally:
            server.stop()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """TAILOR_TEST_REDIS_URL, or a Redis of our own that ends with the run."""
    given = os.environ.get("TAILOR_TEST_REDIS_URL")
    if given:
        yield given
        return
    server = start_redis(tmp_path_factory.mktemp("redis"), durable=False)
    try:
        yield server.url
    finally:
        server.stop()


@pytest.fixture(scope="session")
def engine(database_url: str) -> Iterator[Engine]:
    """Connections to the test database."""
    engine = make_engine(database_url, pool_size=10)
    yield engine
    close_engine(engine)


@pytest.fixture
def sessions(engine: Engine) -> Iterator[SessionFactory]:
    """Sessions whose commits are real; every table is emptied afterwards."""
    factory = session_factory(engine)
    yield factory
    with transaction(factory) as session:  # DELETE: some rows in 14 tables go in 2 ms, TRUNCATE takes 50
        for table in reversed(Base.metadata.sorted_tables):
            session.execute(table.delete())


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Defaults, with the test's servers and a data directory of its own; the caller's environment is left out."""
    for name in [name for name in os.environ if name.startswith("TAILOR_") and not name.startswith("TAILOR_TEST_")]:
        monkeypatch.delenv(name)
    return Settings(database_url=database_url, redis_url=redis_url, data_dir=tmp_path / "data")


@pytest.fixture
def api_key(sessions: SessionFactory) -> str:
    """The plaintext key of the project `default`."""
    with transaction(sessions) as session:
        return create_key(session, name="test")[1]


@pytest.fixture
def caller(sessions: SessionFactory, api_key: str) -> Caller:
    """Who `api_key` stands for."""
    with transaction(sessions) as session:
        return authenticate(session, api_key)


@pytest.fixture
def blobs(sessions: SessionFactory) -> DatabaseBlobStore:
    """The default blob store."""
    return DatabaseBlobStore(sessions)
