"""What most tests stand on: one real PostgreSQL and one real Redis per run, emptied after each test that used them.

Where pytest-xdist runs tests in several processes, each has servers of its own.
"""

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import URL, Engine, make_url

from app.db import SessionFactory, close_engine, make_engine, migrate, session_factory, transaction
from app.embedded import start_postgres, start_redis
from app.projects import Caller, authenticate, create_key
from app.settings import Settings
from app.storage.database import DatabaseBlobStore
from app.tables import Base

# Tiny models gain nothing from a second thread, and waiting for it loses much where tests run beside each other.
# Trainers that tests start inherit it. Torch reads it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure() -> None:
    """A shell that starts tests in the background has them ignore Ctrl-C, and so would every program they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Compressed bytes have the time in them; pytest-xdist wants the same names of tests from all its processes."""
    return "binary" if isinstance(val, bytes) and not val.isascii() else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests together that share what takes long to set up: a file's, and those of the one running stack."""
    for item in items:
        stack = item.path.parent.name == "e2e" and "service" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("stack" if stack else item.path.as_posix()))


def _of_this_process(server: URL) -> URL:
    """The same server, and a database that no other process of this run uses: made anew in PostgreSQL, Redis has 16."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None:
        return server
    if server.drivername.startswith("redis"):
        return server.set(database=worker.removeprefix("gw"))
    name = f"{server.database}_{worker}"
    with closing(psycopg.connect(server.set(drivername="postgresql").render_as_string(False), autocommit=True)) as made:
        made.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        made.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return server.set(database=name)


@pytest.fixture(scope="session")
def database_url() -> Iterator[str]:
    """A migrated database: TAILOR_TEST_DATABASE_URL, or one of our own that ends with the run.

    It does not lie in pytest's folder: started by root, PostgreSQL runs as another user, and every pytest that starts
    on this machine takes the right to enter that folder away from others.
    """
    given = os.environ.get("TAILOR_TEST_DATABASE_URL")
    if given:
        url = _of_this_process(make_url(given)).render_as_string(hide_password=False)
        migrate(url)
        yield url
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
        yield _of_this_process(make_url(given)).render_as_string(hide_password=False)
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
