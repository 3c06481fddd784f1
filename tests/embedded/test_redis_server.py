import os
from pathlib import Path
from urllib.parse import urlsplit

import kombu
import psutil
import pytest
import redis

from app.embedded import StartError, start_redis
from app.embedded.redis import ONCE, bundled_program, find_program, launch_redis, quoted, wait_until_ready


def test_keys_survive_a_restart(tmp_path: Path) -> None:
    server = start_redis(tmp_path)
    with redis.Redis.from_url(server.url) as client:
        client.set("kept", "7")
    server.stop()
    assert server.process.returncode == 0
    server = start_redis(tmp_path)
    with redis.Redis.from_url(server.url) as client:
        assert client.get("kept") == b"7"
    server.stop()


def test_it_listens_on_loopback_and_asks_for_a_password_that_no_command_line_shows(tmp_path: Path) -> None:
    server = start_redis(tmp_path, durable=False)
    try:
        place = urlsplit(server.url)
        process = psutil.Process(server.process.pid)
        listening = {connection.laddr.ip for connection in process.net_connections("tcp")}
        assert listening == {"127.0.0.1"}
        assert place.password is not None
        assert not any(place.password in word for word in process.cmdline())
        with (
            redis.Redis(host=str(place.hostname), port=place.port or 0, retry=ONCE) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.ping()
    finally:
        server.stop()


def test_celerys_transport_takes_the_same_url(tmp_path: Path) -> None:
    server = start_redis(tmp_path, durable=False)
    try:
        with kombu.Connection(server.url) as connection:
            connection.ensure_connection(max_retries=1)
            queue = connection.SimpleQueue("hello")
            queue.put("wake")
            assert queue.get(timeout=5).payload == "wake"
            queue.close()
    finally:
        server.stop()


def test_a_restart_in_the_same_run_keeps_the_url(tmp_path: Path) -> None:
    first = start_redis(tmp_path, durable=False)
    first.process.kill()
    first.process.wait()
    second = launch_redis(tmp_path, first.url, durable=False)
    try:
        wait_until_ready(second, 10)
        assert second.url == first.url
    finally:
        second.stop()


def test_a_dump_that_cannot_be_read_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "dump.rdb").write_bytes(b"REDIS9999 from the future")
    server = start_redis(tmp_path)
    server.stop()
    assert (tmp_path / "dump.rdb.unreadable").read_bytes().startswith(b"REDIS9999")
    assert any("set aside" in note for note in server.notes)


def test_a_server_that_cannot_start_is_quoted(tmp_path: Path) -> None:
    server = start_redis(tmp_path / "first", durable=False)
    try:
        same_port = server.url.replace("redis://:", "redis://:another")
        second = launch_redis(tmp_path / "second", same_port, durable=False)
        with pytest.raises(
            StartError, match=r"Redis ended \(exit code 1\) while starting(.|\n)*Address already in use"
        ):
            wait_until_ready(second, 10)
    finally:
        server.stop()


def test_a_directory_of_any_name_will_do(tmp_path: Path) -> None:
    directory = tmp_path / 'it\'s "a" Größe\\n'
    server = start_redis(directory)
    server.stop()
    assert (directory / "dump.rdb").exists()
    assert quoted('a"b\\') == '"a\\x22b\\x5c"'


def program(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_a_server_on_path_comes_before_the_one_of_the_wheel(tmp_path: Path) -> None:
    bundled = program(tmp_path, "bundled")
    folder = tmp_path / "bin"
    folder.mkdir()
    assert find_program(str(folder), bundled) == str(bundled)
    valkey = program(folder, "valkey-server")
    assert find_program(str(folder), bundled) == str(valkey)
    original = program(folder, "redis-server")
    assert find_program(str(folder), bundled) == str(original)


def test_without_any_server_the_ways_to_get_one_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        StartError, match=r"There is no Redis(.|\n)*valkey(.|\n)*tailor\[embedded\](.|\n)*TAILOR_REDIS_URL"
    ):
        find_program(str(tmp_path), None)


def test_the_wheels_server_is_there_on_linux() -> None:
    found = bundled_program()
    assert found is None or os.access(found, os.X_OK)
