"""`tailor up`: PostgreSQL, Redis, migration, API, worker and control worker, until somebody asks to stop."""

import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from alembic.util import CommandError
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from app.db import SessionFactory, first_line, make_engine, migrate, session_factory, transaction
from app.embedded.address import require_free
from app.embedded.console import Console
from app.embedded.databases import provide_postgres, provide_redis
from app.embedded.directory import DataDirectory, hold
from app.embedded.interrupts import Interrupts
from app.embedded.keyfile import ensure_key
from app.embedded.server import StartError, failure, rotate, spawn
from app.embedded.supervisor import Program, Supervisor, adopt_orphans
from app.health import answers, base_url
from app.jobs.workers import last_seen
from app.settings import Settings, environment

# On one machine a lost worker shows sooner than over a network, and a tick costs little.
LOCAL_TIMINGS = {"lease_s": 10.0, "renew_s": 2.0, "tick_s": 3.0}
READY_TIMEOUT_S = 180.0
POLL_S = 0.1
LOG_CHECK_S = 60.0
# What a worker needs beyond the grace of its job: telling the database, ending its processes.
DRAIN_MARGIN_S = 15.0


def up(settings: Settings) -> int:
    """Runs everything. The exit code: 0 after a clean drain, 1 if it cannot start or something had to be killed."""
    console = Console()
    try:
        with hold(settings.data_dir) as directory, Interrupts() as interrupts:
            require_free(settings.host, settings.port)
            adopt_orphans()
            supervisor = Supervisor(interrupts, console)
            orderly = False
            try:
                start(settings, directory, console, supervisor)
                while True:
                    supervisor.step(LOG_CHECK_S)
            except KeyboardInterrupt:
                console.text("Stopping: running jobs write a checkpoint and go back to the queue.")
            finally:
                orderly = supervisor.stop()
            return 0 if orderly else 1
    except KeyboardInterrupt:
        return 0
    except StartError as error:
        print(f"tailor: {error}", file=sys.stderr)
    except OSError as error:
        print(f"tailor: the start failed: {error}", file=sys.stderr)
    return 1


def start(settings: Settings, directory: DataDirectory, console: Console, supervisor: Supervisor) -> None:
    """Starts everything and returns once all of it is ready. Raises StartError."""
    database_url = provide_postgres(settings.database_url, directory, console, supervisor)
    redis_url = provide_redis(settings.redis_url, directory, console, supervisor)
    timings = {} if settings.model_fields_set & set(LOCAL_TIMINGS) else LOCAL_TIMINGS  # they go together
    settings = settings.model_copy(
        update={"database_url": database_url, "redis_url": redis_url, "data_dir": directory.path, **timings}
    )
    engine = make_engine(database_url)
    try:
        began = time.monotonic()
        console.passing("migrate   running")
        migrate(database_url)
        sessions = session_factory(engine)
        ensure_key(sessions, directory.api_key)
        console.ready("migrate", time.monotonic() - began)
        start_services(settings, directory, console, supervisor, sessions)
    except SQLAlchemyError as error:
        raise StartError(f"The database cannot be used: {first_line(error)}.") from error
    except CommandError as error:
        raise StartError(
            f"The database's schema is not one that this release of Tailor knows ({first_line(error)}): start the "
            "release that wrote it, or give another --data-dir."
        ) from error
    finally:
        engine.dispose()
    supervisor.everything_is_ready()
    console.text(greeting(base_url(settings.host, settings.port), directory.api_key))


def start_services(
    settings: Settings,
    directory: DataDirectory,
    console: Console,
    supervisor: Supervisor,
    sessions: SessionFactory,
) -> None:
    """Starts API, control worker and worker side by side; returns once all three are ready."""
    drain_s = settings.drain_grace_s + DRAIN_MARGIN_S
    programs = [
        service("api", ["serve"], settings, directory, 15.0),
        service("control", ["worker", "--control"], settings, directory, drain_s),
        service("worker", ["worker"], settings, directory, drain_s),
    ]
    with transaction(sessions) as session:
        began_at = session.scalars(select(func.now())).one()
    host = socket.gethostname()

    def reported(kind: str) -> bool:
        with transaction(sessions) as session:
            seen_at = last_seen(session, kind, host)
        return seen_at is not None and seen_at >= began_at

    checks: dict[str, Callable[[], bool]] = {
        "api": lambda: answers(base_url(settings.host, settings.port) + "/readyz"),
        "control": lambda: reported("control"),
        "worker": lambda: reported("training"),
    }
    began = time.monotonic()
    for program in programs:
        supervisor.start(program)
    waiting = {program.name: program for program in programs}
    while waiting:
        elapsed_s = time.monotonic() - began
        console.passing(f"{', '.join(waiting)} starting {elapsed_s:.0f} s")
        supervisor.step(POLL_S)
        for program in [program for program in waiting.values() if checks[program.name]()]:
            supervisor.is_ready(program.name)
            console.ready(program.name, time.monotonic() - began, program.log)
            del waiting[program.name]
        if waiting and elapsed_s > READY_TIMEOUT_S:
            late = next(iter(waiting.values()))
            raise failure(late.name, late.log, late.log_start, None)


def service(name: str, arguments: list[str], settings: Settings, directory: DataDirectory, grace_s: float) -> Program:
    """One of the processes that users of several machines start themselves."""
    log = directory.log(name)
    log_start = rotate(log)
    # Safe path: a folder `app` in the caller's working directory must not stand in for ours.
    variables = environment(settings) | {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "app.cli", *arguments]

    def launch() -> subprocess.Popen[bytes]:
        return spawn(command, log, environment=variables)

    return Program(name, launch, log, log_start, grace_s=grace_s)


def greeting(url: str, api_key: Path) -> str:
    """What to do next."""
    return f"""
Tailor is up.
  API       {url}/v1
  docs      {url}/docs
  API key   {api_key}
  try it    curl -H "Authorization: Bearer $(cat {shlex.quote(str(api_key))})" {url}/v1/models
Ctrl-C stops it.
"""
