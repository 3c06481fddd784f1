"""Real faults: processes that are killed, servers that go away, disks that are full."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.db import SessionFactory, close_engine, make_engine, session_factory, transaction
from app.tables import Base

# Fixtures of other folders that these tests use.
from tests.e2e.conftest import models_dir  # noqa: F401
from tests.faults.servers import Postgres, own_postgres
from tests.worker.conftest import base_models_dir, bench, context, prepared, rows, standby  # noqa: F401


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server that may be killed, for it is not that of other tests."""
    with own_postgres() as server:
        yield server


@pytest.fixture
def sessions(postgres: Postgres) -> Iterator[SessionFactory]:
    """Sessions on that server; every table is emptied afterwards."""
    engine = make_engine(postgres.url, pool_size=10)
    factory = session_factory(engine)
    yield factory
    with transaction(factory) as session:
        for table in reversed(Base.metadata.sorted_tables):
            session.execute(table.delete())
    close_engine(engine)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(path)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)
