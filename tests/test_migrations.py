from collections.abc import Iterator

import alembic.command
import pytest
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import make_url

from app.db import SCHEMA_VERSION, alembic_config, is_migrated, make_engine, session_factory, sqlalchemy_url


@pytest.fixture
def empty_database(database_url: str) -> Iterator[str]:
    server = create_engine(sqlalchemy_url(database_url), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text("CREATE DATABASE migrations"))
    url = make_url(database_url).set(database="migrations")
    yield url.render_as_string(hide_password=False)
    with server.connect() as connection:
        connection.execute(text("DROP DATABASE migrations WITH (FORCE)"))
    server.dispose()


def test_the_schema_goes_up_matches_the_tables_and_comes_down_to_nothing(empty_database: str):
    config = alembic_config(empty_database)
    engine = make_engine(empty_database)
    sessions = session_factory(engine)
    with sessions() as session:
        assert not is_migrated(session)
    alembic.command.upgrade(config, "head")
    alembic.command.check(config)
    with sessions() as session:
        assert is_migrated(session)
        assert session.scalar(text("SELECT version_num FROM alembic_version")) == SCHEMA_VERSION
    alembic.command.downgrade(config, "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]
    alembic.command.upgrade(config, "head")
    engine.dispose()


def test_chunks_are_stored_uncompressed_out_of_line(database_url: str):
    engine = make_engine(database_url)
    with engine.connect() as connection:
        storage = connection.scalar(
            text("SELECT attstorage FROM pg_attribute WHERE attrelid = 'blob_chunks'::regclass AND attname = 'data'")
        )
    engine.dispose()
    assert storage in ("e", b"e")
