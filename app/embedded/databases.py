"""PostgreSQL and Redis for `tailor up`: embedded and supervised, or the user's own where the settings name them."""

import re
import time
from collections.abc import Callable

import redis
from sqlalchemy.exc import SQLAlchemyError

from app.db import first_line, make_engine
from app.embedded.console import Console
from app.embedded.directory import DataDirectory
from app.embedded.postgres import launch_postgres, start_postgres
from app.embedded.redis import ONCE, launch_redis, start_redis
from app.embedded.server import Server, StartError
from app.embedded.supervisor import Program, Supervisor

POSTGRES_GRACE_S = 60.0
REDIS_GRACE_S = 15.0


def provide_postgres(given: str | None, directory: DataDirectory, console: Console, supervisor: Supervisor) -> str:
    """The URL of a PostgreSQL that answers: the given one, else an embedded one. Raises StartError."""
    if given is not None:
        require_postgres(given)
        console.line("postgres", f"external   {masked(given)}")
        return given
    console.passing("postgres  starting")
    began = time.monotonic()
    server = start_postgres(directory.postgres, log=directory.log("postgres"))
    adopt(server, began, lambda: launch_postgres(directory.postgres, log=server.log), POSTGRES_GRACE_S, supervisor)
    introduce(server, began, console)
    return server.url


def provide_redis(given: str | None, directory: DataDirectory, console: Console, supervisor: Supervisor) -> str:
    """The URL of a Redis that answers: the given one, else an embedded one. Raises StartError."""
    if given is not None:
        require_redis(given)
        console.line("redis", f"external   {masked(given)}")
        return given
    console.passing("redis     starting")
    began = time.monotonic()
    server = start_redis(directory.redis, log=directory.log("redis"))
    adopt(server, began, lambda: launch_redis(directory.redis, server.url, log=server.log), REDIS_GRACE_S, supervisor)
    introduce(server, began, console)
    return server.url


def adopt(server: Server, began: float, launch: Callable[[], Server], grace_s: float, supervisor: Supervisor) -> None:
    """Hands a server that is ready to the supervisor."""
    program = Program(server.name, lambda: launch().process, server.log, server.log_start, server.stop_signal, grace_s)
    supervisor.keep(program, server.process, began)
    supervisor.is_ready(program.name)


def introduce(server: Server, began: float, console: Console) -> None:
    """The line of a server that is ready, and what the user should know of it."""
    console.ready(server.name, time.monotonic() - began, server.log)
    for note in server.notes:
        console.line("", note)


def require_postgres(url: str) -> None:
    """Raises StartError where no database answers at the user's URL."""
    engine = make_engine(url)
    try:
        engine.connect().close()
    except SQLAlchemyError as error:
        raise StartError(
            f"The database {masked(url)} does not answer ({first_line(error)}): correct TAILOR_DATABASE_URL, start "
            "that server, or unset the variable for an embedded one."
        ) from None
    finally:
        engine.dispose()


def require_redis(url: str) -> None:
    """Raises StartError where no Redis answers at the user's URL."""
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5, retry=ONCE) as client:
            client.ping()
    except (redis.RedisError, ValueError) as error:
        raise StartError(
            f"The Redis {masked(url)} does not answer ({first_line(error)}): correct TAILOR_REDIS_URL, start that "
            "server, or unset the variable for an embedded one."
        ) from None


def masked(url: str) -> str:
    """A URL without its password."""
    return re.sub(r"((?:^|[?&])password=)[^&]*", r"\1***", re.sub(r"(://[^:/@]*):.*@", r"\1:***@", url))
