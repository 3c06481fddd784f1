"""Whether the API can have its address, asked before anything starts."""

import errno
import socket
import time

import psutil

from app.embedded.server import StartError

# An API that was just killed may still hold its port.
PATIENCE_S = 1.0


def require_free(host: str, port: int) -> None:
    """Raises StartError where `host`:`port` cannot be listened on."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise StartError(
            f"The host {host!r} cannot be resolved ({error.strerror}): give an address with --host."
        ) from None
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
            return
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            raise StartError(reason(host, port, error)) from None


def reason(host: str, port: int, error: OSError) -> str:
    """Why the address cannot be had, and what to do."""
    match error.errno:
        case errno.EADDRINUSE:
            return f"Port {port} is taken{by_whom(port)}: stop that program, or choose another port with --port."
        case errno.EACCES:
            return f"Port {port} is reserved for root: choose one above 1023 with --port."
        case errno.EADDRNOTAVAIL:
            return f"{host} is not an address of this machine: use 127.0.0.1, 0.0.0.0 or one of its own with --host."
        case _:
            return f"Tailor cannot listen on {host}:{port} ({error.strerror}): choose others with --host and --port."


def by_whom(port: int) -> str:
    """` by process 12 (name)` where the system lets us know, else nothing."""
    try:
        for connection in psutil.net_connections("tcp"):
            taken = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
            if taken and connection.pid is not None:
                return f" by process {connection.pid} ({psutil.Process(connection.pid).name()})"
    except psutil.Error:
        pass
    return ""
