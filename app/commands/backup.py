"""`tailor backup` and `tailor restore`."""

import argparse
import shlex
import signal
import sys
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from app.backup.archive import ArchiveReader
    from app.settings import Settings

STANDARD_OUTPUT = "-"
ASK_TO_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def add_parsers(
    add_command: Callable[..., argparse.ArgumentParser],
    add_data_directory: Callable[[argparse.ArgumentParser], None],
) -> None:
    """The two commands and their arguments."""
    backup = add_command(
        "backup",
        help="write everything the service holds into one file, while it runs or not",
        description="Writes jobs, files, models and API keys, all as of one moment, into one file. Works while `tailor "
        "up` runs and while it does not; with TAILOR_DATABASE_URL on that database. Settings and the directories of "
        "base models are not in it.",
    )
    backup.add_argument("file", metavar="FILE", help="where to write it; - for standard output")
    backup.add_argument("--force", action="store_true", help="overwrite FILE")
    add_data_directory(backup)

    restore = add_command(
        "restore",
        help="make a data directory of a backup",
        description="Fills a new or empty data directory from a backup; `tailor up` goes on with it. With "
        "TAILOR_DATABASE_URL it fills that database, which has to be empty. A backup of an older release is brought up "
        "to date.",
    )
    restore.add_argument("file", metavar="FILE", type=Path, help="a file that `tailor backup` wrote")
    add_data_directory(restore)


def run(settings: "Settings", options: argparse.Namespace) -> int:
    """Runs one of the two. Raises SystemExit with a sentence where it fails."""
    import psycopg
    from sqlalchemy.exc import SQLAlchemyError

    from app.backup import BackupError
    from app.db import first_line

    if settings.database_url is None:
        require_embedded()
    try:
        with stoppable():
            if options.command == "backup":
                back_up(settings, options.file, options.force)
            else:
                restore(settings, options.file)
    except BackupError as error:
        raise SystemExit(str(error)) from None
    except (SQLAlchemyError, psycopg.Error) as error:
        raise SystemExit(f"The {options.command} failed and left nothing behind: {first_line(error)}") from None
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        reason = f"{error.strerror or error}{where}"
        raise SystemExit(f"The {options.command} failed and left nothing behind: {reason}") from None
    return 0


def back_up(settings: "Settings", file: str, force: bool) -> None:
    """`tailor backup`."""
    from app.backup.saving import Progress, save
    from app.commands.progress import ProgressBar, size
    from app.db import make_engine

    if file == STANDARD_OUTPUT and sys.stdout.isatty():
        raise SystemExit("A backup is not for a terminal: redirect standard output, or name a file.")
    began = time.monotonic()
    with ExitStack() as stack:
        output = stack.enter_context(opened(file, force))
        engine = make_engine(stack.enter_context(database(settings)))
        stack.callback(engine.dispose)

        def begin(total: int) -> Progress:
            bar = ProgressBar("backup", total)
            stack.callback(bar.close)
            return bar.add

        manifest = save(engine, output, settings.data_dir.expanduser() / "api_key", begin)
    took_s = time.monotonic() - began
    say(f"Backed up {size(manifest.bytes)} as of {manifest.created_at:%Y-%m-%d %H:%M:%S %Z} in {took_s:.1f} s.")


def restore(settings: "Settings", file: Path) -> None:
    """`tailor restore`."""
    from app.backup.archive import ArchiveReader
    from app.backup.restoring import require_known_schema
    from app.commands.progress import ProgressBar, size

    began = time.monotonic()
    with ExitStack() as stack:
        archive = ArchiveReader(file)
        stack.callback(archive.close)
        manifest = archive.manifest
        require_known_schema(manifest)
        bar = ProgressBar("restore", manifest.bytes)
        stack.callback(bar.close)
        next_step = fill(settings, archive, bar.add)
    took_s = time.monotonic() - began
    say(f"Restored {size(manifest.bytes)} as of {manifest.created_at:%Y-%m-%d %H:%M:%S %Z} in {took_s:.1f} s.")
    say(next_step)


def fill(settings: "Settings", archive: "ArchiveReader", moved: Callable[[int], None]) -> str:
    """Fill the database of the settings, or a new data directory. Says what to do next."""
    from app.backup import restoring
    from app.db import make_engine

    def fill_database(url: str) -> None:
        engine = make_engine(url)
        try:
            restoring.restore(engine, archive, moved)
        finally:
            engine.dispose()

    if settings.database_url is not None:
        fill_database(settings.database_url)
        return "The database of TAILOR_DATABASE_URL is filled: start the API and the workers on it."
    from app.embedded.backup import restore_into

    directory = restore_into(settings.data_dir, archive, fill_database)
    if archive.manifest.api_key is None:
        say("The backup has no API key file: `tailor up` makes a new key, and the old ones stay valid.")
    return f"Go on with: tailor up --data-dir {shlex.quote(str(directory.path))}"


@contextmanager
def opened(file: str, force: bool) -> Generator[BinaryIO]:
    """Where the backup goes."""
    from app.backup.draft import draft

    if file == STANDARD_OUTPUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with draft(Path(file), overwrite=force) as output:
        yield output


@contextmanager
def database(settings: "Settings") -> Generator[str]:
    """The URL of the database of the settings, or of the data directory."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    from app.embedded.backup import database_of

    with database_of(settings.data_dir) as url:
        yield url


def require_embedded() -> None:
    """Raises SystemExit where this installation cannot run a database of its own."""
    try:
        import_module("app.embedded.backup")
    except ImportError as error:
        raise SystemExit(
            f"{error}: a data directory needs `pip install 'tailor[embedded]'`, and another database "
            "TAILOR_DATABASE_URL."
        ) from None


@contextmanager
def stoppable() -> Generator[None]:
    """The first signal that asks to stop raises KeyboardInterrupt, so that what was begun is removed; others wait."""
    asked = [number for number in ASK_TO_STOP if signal.getsignal(number) is not signal.SIG_IGN]  # as `nohup` wants

    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in asked:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, stop) for number in asked}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def say(text: str) -> None:
    """To people; standard output may be the backup."""
    print(text, file=sys.stderr)
