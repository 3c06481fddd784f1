"""The database: engine, sessions, work after a commit, migration. One request or one worker step is one transaction."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import alembic.command
from alembic.config import Config
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo
from sqlalchemy import Connection, Engine, Select, create_engine, event, make_url, select, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.orm import Session, sessionmaker

MIGRATIONS = Path(__file__).parent.parent / "migrations"
CONNECT_TIMEOUT_S = 5
LISTENER = "tailor listener"  # its name in pg_stat_activity

SessionFactory = sessionmaker[Session]


def sqlalchemy_url(database_url: str) -> str:
    """The URL with the psycopg 3 driver named, whatever PostgreSQL scheme the user wrote."""
    _, _, rest = database_url.partition("://")
    return f"postgresql+psycopg://{rest}"


def make_engine(database_url: str, pool_size: int = 5) -> Engine:
    """An engine whose connections are checked before use: a restarted server costs a reconnect, not an error."""
    return create_engine(
        sqlalchemy_url(database_url),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=CONNECT_TIMEOUT_S,
        pool_pre_ping=True,
        hide_parameters=True,  # of failed statements, which are logged: some are secrets
        connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "options": "-c timezone=UTC"},
    )


async def connect_for_listening(database_url: str) -> AsyncConnection:
    """A connection of its own for LISTEN, without transactions. Keepalives find a server that is silently gone."""
    url = make_url(sqlalchemy_url(database_url))
    _, parameters = url.get_dialect()().create_connect_args(url)
    return await AsyncConnection.connect(
        make_conninfo(**parameters),
        autocommit=True,
        application_name=LISTENER,
        connect_timeout=CONNECT_TIMEOUT_S,
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
    )


def close_engine(engine: Engine) -> None:
    """Close every connection; one that a request or a thread still uses is closed when it comes back."""

    def close(connection: DBAPIConnection | None, _: object) -> None:
        if connection is not None:
            connection.close()

    event.listen(engine.pool, "checkin", close)
    engine.dispose()


def session_factory(engine: Engine) -> SessionFactory:
    """Sessions that keep loaded values after a commit: nothing is reloaded behind the caller's back."""
    return sessionmaker(engine, expire_on_commit=False)


@contextmanager
def transaction(sessions: SessionFactory) -> Generator[Session]:
    """One transaction: committed at the end, rolled back on any exception."""
    with sessions() as session, session.begin():
        yield session


def first_line(error: Exception) -> str:
    """What went wrong, short: SQLAlchemy wraps the driver's error and adds lines of its own."""
    cause = getattr(error, "orig", None) or error
    return next(iter(str(cause).strip().splitlines()), type(cause).__name__)


def after_commit(session: Session, function: Callable[[], None]) -> None:
    """Call `function` once this session's transaction has committed; drop it on rollback. Equal functions run once."""
    waiting: list[Callable[[], None]] = session.info.setdefault("after_commit", [])
    if function not in waiting:
        waiting.append(function)


@event.listens_for(Session, "after_commit")
def _run_after_commit(session: Session) -> None:
    for function in session.info.pop("after_commit", []):
        function()


@event.listens_for(Session, "after_rollback")
def _drop_after_rollback(session: Session) -> None:
    session.info.pop("after_commit", None)


def alembic_config(database_url: str) -> Config:
    """Alembic's configuration for a database; needs no ini file."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["database_url"] = database_url
    return config


def migrate(database_url: str) -> None:
    """Bring the schema to the newest version. Two at once wait for each other."""
    alembic.command.upgrade(alembic_config(database_url), "head")


def migrate_within(connection: Connection, revision: str) -> None:
    """Bring the schema to a version inside the caller's transaction, which others that migrate wait for."""
    config = alembic_config("")
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, revision)


def is_migrated(session: Session) -> bool:
    """Whether the schema is the one this code was written for."""
    if session.scalar(text("SELECT to_regclass('alembic_version')")) is None:
        return False
    return session.scalar(text("SELECT version_num FROM alembic_version")) == SCHEMA_VERSION


SCHEMA_VERSION = "0011"


def run_once(query: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
    """The same rows for use in `IN`, of a query that locks some rows and skips those that are locked.

    Inside `IN` itself PostgreSQL may run such a query once for each row that it looks at, and each time it finds
    others: a `LIMIT` of 2 then gave 4.
    """
    found = query.cte("found").prefix_with("MATERIALIZED", dialect="postgresql")
    return select(*found.c)
