"""The tables of a database as they are, whatever release made them."""

from dataclasses import dataclass
from typing import Literal, cast

import psycopg
from psycopg import sql
from sqlalchemy import Connection, LargeBinary, inspect, text

VERSION_TABLE = "alembic_version"


@dataclass(frozen=True)
class Table:
    """A table's name and the columns that can be written; `large` are those of bytes."""

    name: str
    columns: tuple[str, ...]
    large: tuple[str, ...]

    @property
    def format(self) -> Literal["text", "binary"]:
        """COPY's text format is for every version and machine; for bytes it would double the size."""
        return "binary" if self.large else "text"

    def copy(self, direction: sql.SQL) -> sql.Composed:
        """The COPY statement that moves all rows."""
        columns = sql.SQL(", ").join(map(sql.Identifier, self.columns))
        return sql.SQL("COPY {} ({}) {} (FORMAT {})").format(
            sql.Identifier(self.name), columns, direction, sql.Identifier(self.format)
        )


def schema_version(connection: Connection) -> str | None:
    """The migration that the database is at; None for one that Tailor did not make."""
    if connection.scalar(text("SELECT to_regclass(:name)"), {"name": VERSION_TABLE}) is None:
        return None
    return connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608 a constant


def tables_of(connection: Connection) -> list[Table]:
    """All tables but the one with the version, each after those that its rows refer to."""
    found = inspect(connection)
    names = [name for name, _ in found.get_sorted_table_and_fkc_names() if name not in (None, VERSION_TABLE)]
    tables: list[Table] = []
    for name in names:
        columns = [column for column in found.get_columns(name) if "computed" not in column]
        large = [column["name"] for column in columns if isinstance(column["type"], LargeBinary)]
        tables.append(Table(name, tuple(column["name"] for column in columns), tuple(large)))
    return tables


def driver(connection: Connection) -> psycopg.Connection:
    """The driver's connection, inside the same transaction."""
    return cast(psycopg.Connection, connection.connection.driver_connection)


# A server's own limits are made for short statements, and its own notations are not everybody's.
SESSION = {
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "client_encoding": "UTF8",
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
}


def settle(connection: Connection) -> None:
    """Make this transaction independent of how the server is configured. Takes no snapshot."""
    for name, value in SESSION.items():
        connection.execute(text(f"SET LOCAL {name} = '{value}'"))
