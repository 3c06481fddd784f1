"""From a database into a backup: every row as of one moment, while others go on writing."""

from collections.abc import Callable, Generator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

from psycopg import sql
from sqlalchemy import Connection, Engine, text

from app.backup.archive import API_KEY, FORMAT, ArchiveWriter, BackupError, Manifest, Part, TablePart, table_path
from app.backup.tables import Table, driver, schema_version, settle, tables_of

Progress = Callable[[int], None]  # takes the number of bytes moved since it was called last


def save(engine: Engine, output: BinaryIO, api_key: Path, begin: Callable[[int], Progress]) -> Manifest:
    """Write a backup of the database to `output`, with the key file where there is one.

    The rows are those of one moment, a snapshot, which holds up nobody but a migration. `begin` gets the number of
    bytes to move, about. Raises BackupError for a database that is none of Tailor's.
    """
    with engine.connect() as connection:
        tables = tables_of(connection)
        if schema_version(connection) is None:
            raise BackupError("The database has no tables of Tailor: there is nothing to back up.")
    snapshot = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with engine.connect().execution_options(**snapshot) as connection:
        settle(connection)
        # Before the first SELECT takes the snapshot: a table that is rewritten after it would look empty.
        names = sql.SQL(", ").join(sql.Identifier(table.name) for table in tables)
        driver(connection).execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(names))
        created_at = connection.execute(text("SELECT now()")).scalar_one()
        schema = schema_version(connection)
        moved = begin(sum(_size(connection, table) for table in tables))
        archive = ArchiveWriter(output)
        manifest = Manifest(
            format=FORMAT,
            tailor=version("tailor"),
            database_schema=schema or "",
            created_at=created_at,
            tables={table.name: _add_rows(connection, archive, table, moved) for table in tables},
            sequences=_sequences(connection),
            api_key=_add_key(archive, api_key),
        )
        archive.finish(manifest)
    return manifest


def _size(connection: Connection, table: Table) -> int:
    """About how many bytes the rows have as they travel."""
    if table.large:
        lengths = sql.SQL(" + ").join(sql.SQL("octet_length({})").format(sql.Identifier(name)) for name in table.large)
        query = sql.SQL("SELECT coalesce(sum({}), 0)::bigint FROM {}").format(lengths, sql.Identifier(table.name))
    else:
        query = sql.SQL("SELECT pg_relation_size({})").format(sql.Literal(table.name))
    row = driver(connection).execute(query).fetchone()
    assert row is not None
    return row[0]


def _add_rows(connection: Connection, archive: ArchiveWriter, table: Table, moved: Progress) -> TablePart:
    def rows() -> Generator[bytes]:
        with driver(connection).cursor() as cursor, cursor.copy(table.copy(sql.SQL("TO STDOUT"))) as copy:
            for data in copy:
                moved(len(data))
                yield bytes(data)

    # Bytes are uploads and weights, which do not compress; the rest is text, which does.
    # Closed here, since a COPY that was left half read holds its connection against the end of the transaction.
    with closing(rows()) as pieces:
        part = archive.add(table_path(table.name), pieces, compressed=table.format == "text")
    return TablePart(bytes=part.bytes, sha256=part.sha256, columns=table.columns, format=table.format)


def _sequences(connection: Connection) -> dict[str, int]:
    """Where numbers go on: later than those of all rows, since nobody waits for the snapshot to draw one."""
    rows = connection.execute(
        text(
            "SELECT sequencename, last_value FROM pg_sequences"
            " WHERE schemaname = current_schema() AND last_value IS NOT NULL ORDER BY sequencename"
        )
    )
    return dict(rows.all())


def _add_key(archive: ArchiveWriter, path: Path) -> Part | None:
    try:
        return archive.add(API_KEY, [path.read_bytes()], compressed=False)
    except FileNotFoundError:
        return None
