"""The API process stays small: after many requests, and while large files pass through it."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from app.settings import Settings, environment
from tests.api.conftest import headers_of
from tests.api.test_uploads import wait_until

MIB = 1024 * 1024
SIZE = 192 * MIB  # three times what the process may grow by; the 1 GiB of the promise takes too long for every run
PARALLEL = 4
SERVER = """
import sys, uvicorn
from app.main import create_app
uvicorn.run(create_app(), port=int(sys.argv[1]), log_level="warning", access_log=False)
"""


@pytest.fixture
def process(
    settings: Settings, api_key: str, unused_port: int, tmp_path: Path
) -> Iterator[tuple[httpx.Client, psutil.Process]]:
    """The API as a process of its own."""
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(unused_port)], env=environment(settings), cwd=tmp_path)
    try:
        url = f"http://127.0.0.1:{unused_port}"
        with httpx.Client(base_url=url, headers=headers_of(api_key), timeout=120) as client:
            wait_until(lambda: answers(client), 60)
            yield client, psutil.Process(server.pid)
    finally:
        server.terminate()
        server.wait(20)


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def content() -> Iterator[bytes]:
    block = os.urandom(MIB)
    for number in range(SIZE // MIB):
        yield number.to_bytes(8) + block[8:]


def form() -> Iterator[bytes]:
    yield b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="big.bin"\r\n\r\n'
    yield from content()
    yield b"\r\n--x--\r\n"


def test_the_process_stays_small(process: tuple[httpx.Client, psutil.Process]) -> None:
    client, server = process
    for _ in range(1000):
        assert client.get("/v1/fine_tuning/jobs").status_code == 200
    before = server.memory_info().rss
    assert before < 200 * MIB

    peak = before
    sent = hashlib.sha256()

    def watched() -> Iterator[bytes]:
        nonlocal peak
        for piece in form():
            if len(piece) == MIB:
                sent.update(piece)
            peak = max(peak, server.memory_info().rss)
            yield piece

    answer = client.post("/v1/files", content=watched(), headers={"content-type": "multipart/form-data; boundary=x"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["sha256"] == sent.hexdigest()

    received = hashlib.sha256()
    with client.stream("GET", f"/v1/files/{answer.json()['id']}/content") as download:
        for piece in download.iter_bytes():
            received.update(piece)
            peak = max(peak, server.memory_info().rss)
    assert received.hexdigest() == sent.hexdigest()
    assert peak - before < 64 * MIB


def test_the_process_stays_small_while_parts_arrive_at_once(process: tuple[httpx.Client, psutil.Process]) -> None:
    client, server = process
    part = SIZE // PARALLEL
    new = {"bytes": SIZE, "filename": "big.bin", "purpose": "batch"}
    path = f"/v1/uploads/{client.post('/v1/uploads', json=new).json()['id']}"
    before = peak = server.memory_info().rss

    def send(number: int) -> str:
        def form() -> Iterator[bytes]:
            nonlocal peak
            yield b'--x\r\nContent-Disposition: form-data; name="data"; filename="part"\r\n\r\n'
            for _ in range(part // MIB):
                yield bytes([number]) * MIB
                peak = max(peak, server.memory_info().rss)
            yield b"\r\n--x--\r\n"

        headers = {"content-type": "multipart/form-data; boundary=x"}
        return client.post(f"{path}/parts", content=form(), headers=headers).json()["id"]

    with ThreadPoolExecutor(PARALLEL) as threads:
        ids = list(threads.map(send, range(PARALLEL)))
    file = client.post(f"{path}/complete", json={"part_ids": ids}).json()["file"]
    peak = max(peak, server.memory_info().rss)

    expected = hashlib.sha256()
    for number in range(PARALLEL):
        expected.update(bytes([number]) * part)
    assert file["sha256"] == expected.hexdigest()
    assert peak - before < SIZE * 3 // 4
