"""`tailor`: the command line. Everything beyond the parser is imported by the command that needs it."""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from app.commands import backup, keys

if TYPE_CHECKING:
    from app.settings import Settings

USAGE_ERROR = 2


def build_parser() -> argparse.ArgumentParser:
    """All commands and their arguments."""
    parser = argparse.ArgumentParser(
        prog="tailor",
        description="Fine-tunes language models behind a REST API.",
        epilog="Every setting is an environment variable TAILOR_*; README.md lists them.",
    )
    parser.add_argument("--version", action="version", version=f"tailor {version('tailor')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    up = commands.add_parser(
        "up",
        help="everything on this machine: PostgreSQL, Redis, API, workers",
        description="Starts PostgreSQL and Redis of its own (unless TAILOR_DATABASE_URL or TAILOR_REDIS_URL name "
        "others), migrates, and runs the API, a worker and the control worker until Ctrl-C.",
    )
    add_data_directory(up)
    add_address(up)

    serve = commands.add_parser(
        "serve", help="the API alone", description="Runs the API. Needs TAILOR_DATABASE_URL and TAILOR_REDIS_URL."
    )
    add_address(serve)

    worker = commands.add_parser(
        "worker",
        help="a worker alone",
        description="Runs a worker, which trains, until SIGTERM; then its jobs write a checkpoint and go back to the "
        "queue. Needs TAILOR_DATABASE_URL, TAILOR_REDIS_URL and the extra `tailor[worker]`.",
    )
    worker.add_argument(
        "--control",
        action="store_true",
        help="the control worker instead: prepares files, frees jobs of lost workers, wakes workers",
    )

    commands.add_parser(
        "migrate",
        help="bring the database's schema up to date",
        description="Brings the schema of TAILOR_DATABASE_URL up to date. Several at once wait for each other.",
    )
    keys.add_parser(commands.add_parser, add_data_directory)
    backup.add_parsers(commands.add_parser, add_data_directory)

    health = commands.add_parser(
        "health",
        help="whether a process of this machine works: exit code 0 or 1",
        description="Checks the API over HTTP, or whether the worker of this machine was heard of in the last two "
        "minutes. For the health checks of containers.",
    )
    health.add_argument("process", choices=["api", "worker", "control"])
    return parser


def add_data_directory(parser: argparse.ArgumentParser) -> None:
    """`--data-dir`."""
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="where its state lies (default: TAILOR_DATA_DIR, else `tailor` in the user's data folder)",
    )


def add_address(parser: argparse.ArgumentParser) -> None:
    """`--host` and `--port`."""
    parser.add_argument("--host", help="address the API listens on (default: TAILOR_HOST, else 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port the API listens on (default: TAILOR_PORT, else 8000)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit code."""
    options = build_parser().parse_args(arguments)
    try:
        return run(options)
    except SystemExit as end:
        if isinstance(end.code, str):  # a sentence: a setting that is required, a command that cannot go on
            return fail(end.code)
        raise
    except KeyboardInterrupt:
        return 130


def run(options: argparse.Namespace) -> int:
    """Runs the command that was parsed."""
    # Options win over variables, here and in the processes that this one starts.
    for name in ("data_dir", "host", "port"):
        value = getattr(options, name, None)
        if value is not None:
            os.environ[f"TAILOR_{name.upper()}"] = str(value)
    try:
        settings = read_settings()
    except ValueError as error:
        return fail(str(error), USAGE_ERROR)
    match options.command:
        case "up":
            return up(settings)
        case "serve":
            return serve(settings)
        case "worker":
            return worker(settings, options.control)
        case "migrate":
            return migrate(settings)
        case "keys":
            return keys.run(settings, options)
        case "backup" | "restore":
            return backup.run(settings, options)
        case _:
            return health(settings, options.process)


def read_settings() -> "Settings":
    """The settings. Raises ValueError with one sentence a wrong variable."""
    from pydantic import ValidationError

    from app.settings import Settings

    try:
        return Settings()
    except ValidationError as error:
        problems = [
            f"TAILOR_{str(found['loc'][0]).upper()}={found['input']!r}: {found['msg']}"
            if found["loc"]
            else found["msg"]
            for found in error.errors()
        ]
        raise ValueError("; ".join(problems)) from None


def up(settings: "Settings") -> int:
    """`tailor up`."""
    try:
        from app.embedded import stack
    except ImportError as error:
        return fail(f"{error}: `tailor up` needs `pip install 'tailor[embedded,worker]'`.")
    return stack.up(settings)


def serve(settings: "Settings") -> int:
    """`tailor serve`."""
    settings.require("database_url")
    settings.require("redis_url")
    import uvicorn

    from app.api.server import Server
    from app.main import create_app

    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_level=settings.log_level,
        loop="uvloop",
        http="httptools",
        access_log=False,
        timeout_graceful_shutdown=10,
    )
    with suppress(KeyboardInterrupt):  # uvicorn raises it again once it has ended in good order
        Server(app, config).run()
    return 0


def worker(settings: "Settings", control: bool) -> int:
    """`tailor worker`: becomes the program `worker.main`, which `app` may not import."""
    settings.require("database_url")
    settings.require("redis_url")
    if find_spec("worker") is None:
        return fail("This installation has no worker: run `pip install 'tailor[worker]'` from the whole source tree.")
    # -P: a folder `worker` in the working directory must not stand in for ours.
    command = [sys.executable, "-P", "-m", "worker.main", *(["--control"] if control else [])]
    return os.execv(sys.executable, command)  # noqa: S606 the interpreter that runs us


def migrate(settings: "Settings") -> int:
    """`tailor migrate`."""
    database_url = settings.require("database_url")
    from alembic.util import CommandError
    from sqlalchemy.exc import SQLAlchemyError

    from app.db import first_line
    from app.db import migrate as bring_up_to_date

    try:
        bring_up_to_date(database_url)
    except SQLAlchemyError as error:
        return fail(f"The database of TAILOR_DATABASE_URL cannot be migrated: {first_line(error)}")
    except CommandError as error:
        return fail(f"The database's schema is not one that this release of Tailor knows: {first_line(error)}")
    print("The schema is up to date.")
    return 0


def health(settings: "Settings", process: str) -> int:
    """`tailor health`."""
    from app.health import problem_of

    problem = problem_of(settings, process)
    return 0 if problem is None else fail(problem)


def fail(message: str, exit_code: int = 1) -> int:
    """Says on standard error why the command ends."""
    print(f"tailor: {message}", file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
