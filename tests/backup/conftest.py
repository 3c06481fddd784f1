import itertools
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, inspect, text
from sqlalchemy.engine import make_url

from app.backup.archive import ArchiveReader
from app.backup.restoring import restore
from app.backup.saving import save
from app.db import close_engine, make_engine, sqlalchemy_url
from tests.jobs.conftest import queued_job, starter, upload

__all__ = ["queued_job", "starter", "upload"]


@pytest.fixture
def new_database(database_url: str) -> Iterator[Callable[[], Engine]]:
    """Empty databases beside the test database."""
    server = create_engine(sqlalchemy_url(database_url), isolation_level="AUTOCOMMIT")
    made: list[Engine] = []
    numbers = itertools.count()

    def make() -> Engine:
        name = f"backup_{next(numbers)}"
        with server.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        url = make_url(database_url).set(database=name)
        made.append(make_engine(url.render_as_string(hide_password=False)))
        return made[-1]

    yield make
    for engine in made:
        close_engine(engine)
        with server.connect() as connection:
            connection.execute(text(f"DROP DATABASE {engine.url.database} WITH (FORCE)"))
    server.dispose()


@pytest.fixture
def backed_up(engine: Engine, tmp_path: Path) -> Callable[..., Path]:
    """Back a database up: the test database, unless told otherwise."""

    def do(source: Engine = engine, during: Callable[[], object] = lambda: None) -> Path:
        path = tmp_path / "backup.zip"

        def begin(_total: int) -> Callable[[int], None]:
            during()
            return lambda _moved: None

        with path.open("wb") as output:
            save(source, output, tmp_path / "api_key", begin)
        return path

    return do


def restored(path: Path, target: Engine) -> Engine:
    """Restore a backup into an empty database."""
    archive = ArchiveReader(path)
    try:
        restore(target, archive, lambda _moved: None)
    finally:
        archive.close()
    return target


def with_manifest(path: Path, change: Callable[[dict], None]) -> Path:
    """The backup with another manifest, whole as a zip."""
    changed = path.with_name("changed.zip")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "manifest.json":
                manifest = json.loads(content)
                change(manifest)
                content = json.dumps(manifest).encode()
            target.writestr(name, content)
    return changed


def is_empty(engine: Engine) -> bool:
    with engine.connect() as connection:
        return inspect(connection).get_table_names() == []
