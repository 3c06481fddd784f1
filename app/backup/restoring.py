"""From a backup into an empty database, in one transaction: all of it or nothing."""

import psycopg
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy import Connection, Engine, delete, func, inspect, update
from sqlalchemy.orm import Session

from app.backup.archive import ArchiveReader, BackupError, Manifest, advice, table_path
from app.backup.saving import Progress
from app.backup.tables import Table, driver, settle, tables_of
from app.db import alembic_config, migrate_within
from app.jobs import leases
from app.tables import Job, Worker


def require_known_schema(manifest: Manifest) -> None:
    """Raises BackupError for a backup of a schema that this release does not know."""
    script = ScriptDirectory.from_config(alembic_config(""))
    if manifest.database_schema not in {revision.revision for revision in script.walk_revisions()}:
        raise BackupError(
            f"The backup's database schema is {manifest.database_schema}, and this release knows those up to "
            f"{script.get_current_head()}. {advice(manifest)}"
        )


def restore(engine: Engine, archive: ArchiveReader, moved: Progress) -> None:
    """Fill an empty database and bring its schema up to date. Jobs that ran are queued again and lose no attempt.

    Raises BackupError for a database that is not empty and for a backup that was altered.
    """
    manifest = archive.manifest
    require_known_schema(manifest)
    with engine.connect() as connection, connection.begin():
        settle(connection)
        if inspect(connection).get_table_names():
            raise BackupError(
                "The database has tables already, and a backup is restored into an empty one: name another database, "
                "or drop what this one holds. Nothing was restored."
            )
        migrate_within(connection, manifest.database_schema)
        try:
            _fill(connection, archive, moved)
        except psycopg.Error:
            archive.verify()  # altered bytes are the backup's fault, and whatever else went wrong is not
            raise
        migrate_within(connection, "head")
        with Session(connection) as session:
            # The time between backup and restore is none that a job has run.
            lost = func.now() - manifest.created_at
            session.execute(update(Job).where(Job.claimed_at.is_not(None)).values(claimed_at=Job.claimed_at + lost))
            made_at = f"{manifest.created_at:%Y-%m-%d %H:%M:%S %Z}"
            leases.release_all(
                session, f"Restored from the backup of {made_at}; the job goes on from its last checkpoint"
            )
            session.execute(delete(Worker))
            session.commit()


def _fill(connection: Connection, archive: ArchiveReader, moved: Progress) -> None:
    tables = {table.name: table for table in tables_of(connection)}
    saved = archive.manifest.tables
    if tables.keys() != saved.keys():
        names = ", ".join(sorted(tables.keys() ^ saved.keys()))
        raise BackupError(
            f"The backup and its schema {archive.manifest.database_schema} differ in these tables: {names}. Somebody "
            "else has changed the database that it was made of. Nothing was restored."
        )
    cursor = driver(connection).cursor()
    # Rows that a migration wrote are in the backup as well.
    cursor.execute(sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(map(sql.Identifier, tables))))
    for name, part in saved.items():
        table = Table(name, part.columns, tables[name].large)
        # Triggers of ours tell of news, and these are none.
        cursor.execute(sql.SQL("ALTER TABLE {} DISABLE TRIGGER USER").format(sql.Identifier(name)))
        with cursor.copy(table.copy(sql.SQL("FROM STDIN"))) as copy:
            for piece in archive.read(table_path(name), part):
                copy.write(piece)
                moved(len(piece))
        cursor.execute(sql.SQL("ALTER TABLE {} ENABLE TRIGGER USER").format(sql.Identifier(name)))
    for name, last_value in archive.manifest.sequences.items():
        cursor.execute("SELECT setval(quote_ident(%s)::regclass, %s)", (name, last_value))
