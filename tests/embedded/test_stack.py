"""Starts that must fail, through the command itself. A start that succeeds is driven by the tests in tests/e2e."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from app.embedded.directory import hold
from app.embedded.stack import greeting


def up(data_dir: Path, port: int, **variables: str) -> "subprocess.CompletedProcess[str]":
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TAILOR_")}
    return subprocess.run(
        [sys.executable, "-m", "app.cli", "up", f"--data-dir={data_dir}", f"--port={port}"],
        env=inherited | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_taken_port_ends_the_start_before_anything_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = up(tmp_path, port)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"tailor: Port {port} is taken")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "postgres").exists()


def test_a_data_directory_in_use_ends_the_start(tmp_path: Path) -> None:
    with hold(tmp_path):
        result = up(tmp_path, 1024)
    assert result.returncode == 1
    assert f"in use by process {os.getpid()}" in result.stderr


def test_postgresql_that_cannot_start_ends_the_start_and_stops_the_rest(tmp_path: Path) -> None:
    data = tmp_path / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("9.6\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    result = up(tmp_path, port)
    assert result.returncode == 1
    assert "written by PostgreSQL 9.6" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_curl_line_survives_a_path_with_spaces(tmp_path: Path) -> None:
    key = tmp_path / "it's a folder" / "api_key"
    key.parent.mkdir()
    key.write_text("tlr-secret\n")
    [line] = [line for line in greeting("http://127.0.0.1:8000", key).splitlines() if line.startswith("  try it")]
    script = line.partition("curl")[2]
    shown = subprocess.run(["/bin/sh", "-c", f"printf '%s|' {script}"], capture_output=True, text=True, check=True)
    assert shown.stdout == "-H|Authorization: Bearer tlr-secret|http://127.0.0.1:8000/v1/models|"
