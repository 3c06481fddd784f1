"""A Tailor service of one's own for a while: `tailor up` in a directory, on a free port."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

READY_S = 180


@dataclass(frozen=True)
class Service:
    """A running service: its URL, a key for it, and the process of `tailor up`."""

    url: str
    key: str
    process: subprocess.Popen[bytes]


@contextmanager
def own_service(
    directory: Path, *, settings: Mapping[str, str] | None = None, log: Path | None = None
) -> Generator[Service]:
    """Start the service, yield it once it is ready, drain it at the end.

    `settings` are further TAILOR_* variables; `log` takes the lines it prints. Raises SystemExit if it does not start.
    """
    port = free_port()
    command = [sys.executable, "-m", "app.cli", "up", "--data-dir", str(directory), "--port", str(port)]
    output = log.open("ab") if log else None
    try:
        with subprocess.Popen(
            command, start_new_session=True, stdout=output, stderr=output, env=os.environ | dict(settings or {})
        ) as process:
            try:
                url = f"http://127.0.0.1:{port}"
                wait_until_ready(url, process)
                yield Service(url, (directory / "api_key").read_text().strip(), process)
            finally:
                process.send_signal(signal.SIGINT)
                process.wait()
    finally:
        if output is not None:
            output.close()


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Return once the API answers and a worker of each kind is there."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit("the service did not start; its last lines say why")
        try:
            body = httpx.get(f"{url}/readyz").json()
            if body.get("status") == "ok" and all(count > 0 for count in body["workers"].values()):
                return
        except (httpx.HTTPError, ValueError):
            pass
        time.sleep(0.1)
    raise SystemExit(f"the service was not ready within {READY_S} s")
