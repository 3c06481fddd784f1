"""Alembic's environment: one online mode, one connection, migrations serialized by an advisory lock."""

from alembic import context
from sqlalchemy import Connection, create_engine, text

from app.db import sqlalchemy_url
from app.settings import get_settings
from app.tables import Base

MIGRATION_LOCK = 0x7A110F  # any constant: one migration at a time per database


def run(connection: Connection) -> None:
    """Migrate on this connection."""
    context.configure(connection=connection, target_metadata=Base.metadata, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:  # a caller's transaction, which commits or not
    given.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
    run(given)
else:
    database_url = context.config.attributes.get("database_url") or get_settings().require("database_url")
    engine = create_engine(sqlalchemy_url(database_url))
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
        connection.execute(text("SET lock_timeout = '10s'"))
        connection.commit()
        run(connection)
        connection.commit()
    engine.dispose()
