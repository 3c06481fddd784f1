"""`tailor keys`: make, list and revoke API keys."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.projects import KeyInfo
    from app.settings import Settings


def add_parser(
    add_command: Callable[..., argparse.ArgumentParser],
    add_data_directory: Callable[[argparse.ArgumentParser], None],
) -> None:
    """`tailor keys create`, `list` and `revoke`."""
    keys = add_command(
        "keys",
        help="make, list and revoke API keys",
        description="Works on TAILOR_DATABASE_URL, or where that is not set on the `tailor up` that runs on this "
        "machine.",
    )
    actions = keys.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="make a key; it is printed once and stored as a hash")
    create.add_argument("--name", required=True, help="what the key is for")
    create.add_argument("--project", default="default", help="the project it opens, made if needed (default: default)")
    listing = actions.add_parser("list", help="show all keys by their first characters")
    revoke = actions.add_parser("revoke", help="end a key's validity at once")
    revoke.add_argument("id", help="the key's id, as `tailor keys list` shows it")
    for action in (create, listing, revoke):
        add_data_directory(action)


def run(settings: "Settings", options: argparse.Namespace) -> int:
    """Runs one of the three. A new key is all that `create` writes to standard output.

    Raises SystemExit with a sentence where it fails.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from app.db import first_line, make_engine, session_factory, transaction
    from app.errors import AppError
    from app.projects import create_key, list_keys, revoke_key

    database_url = settings.database_url or embedded_database_url(settings.data_dir)
    if database_url is None:
        raise SystemExit(
            f"TAILOR_DATABASE_URL is not set and no `tailor up` runs on {settings.data_dir}: set the variable, start "
            "`tailor up`, or name its directory with --data-dir."
        )
    engine = make_engine(database_url)
    try:
        with transaction(session_factory(engine)) as session:
            match options.action:
                case "create":
                    key, plaintext = create_key(session, project=options.project, name=options.name)
                    session.commit()
                    print(plaintext)
                    print(f"{key.id} opens the project {key.project!r}; it is not shown again.", file=sys.stderr)
                case "list":
                    print_keys(list_keys(session))
                case _:
                    key = revoke_key(session, options.id)
                    print(f"{key.id} ({key.name}, {key.prefix}…) is revoked.")
    except AppError as error:
        raise SystemExit(error.message) from None
    except SQLAlchemyError as error:
        raise SystemExit(f"The database cannot be used; has `tailor migrate` run? {first_line(error)}") from None
    finally:
        engine.dispose()
    return 0


def embedded_database_url(data_dir: Path) -> str | None:
    """The database of the `tailor up` that runs on `data_dir`, if one does."""
    try:
        from app.embedded.directory import DataDirectory
        from app.embedded.postgres import running_url
    except ImportError:
        return None
    return running_url(DataDirectory(data_dir).postgres)


def print_keys(found: "list[KeyInfo]") -> None:
    """A table of keys."""
    rows = [("ID", "PROJECT", "NAME", "KEY", "CREATED", "REVOKED")]
    for key in found:
        revoked = "" if key.revoked_at is None else f"{key.revoked_at:%Y-%m-%d %H:%M}"
        rows.append((key.id, key.project, key.name, f"{key.prefix}…", f"{key.created_at:%Y-%m-%d %H:%M}", revoked))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
