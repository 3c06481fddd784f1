"""Many event streams on one process of `tailor serve`: what each costs, slow clients, and the end of the process."""

import asyncio
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from sqlalchemy import make_url, text

from app.db import LISTENER, SessionFactory, transaction
from app.settings import Settings, environment
from app.tables import Job
from tests.api.following import address_of, finish, stored_ids, tell
from tests.api.scenery import Scenery
from tests.api.test_memory import answers
from tests.api.test_uploads import wait_until

MIB = 1024 * 1024
STREAMS = 500
JOBS = 5
APPLICATION = "tailor load test"
TIMEOUT_S = 120


@dataclass(frozen=True)
class Connection:
    """A client's end of a stream."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def read_until(self, text: str) -> bytes:
        """All up to a text that comes."""
        async with asyncio.timeout(TIMEOUT_S):
            return await self.reader.readuntil(text.encode())

    async def read_to_the_end(self) -> bytes:
        """All that comes until the server closes the connection."""
        async with asyncio.timeout(TIMEOUT_S):
            return await self.reader.read()

    def hang_up(self) -> None:
        self.writer.transport.abort()


@dataclass(frozen=True)
class Serving:
    """A running `tailor serve`."""

    port: int
    key: str
    process: psutil.Process
    log: Path

    @asynccontextmanager
    async def crowd(self) -> AsyncIterator[Callable[..., Awaitable[Connection]]]:
        """Opens streams by hand: 500 HTTP clients would cost this process more than the server. All end with it."""
        connections: list[Connection] = []

        async def open_stream(job: Job, receive_bytes: int = 65536) -> Connection:
            raw = socket.socket()
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            raw.setblocking(False)
            await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", self.port))
            connection = Connection(*await asyncio.open_connection(sock=raw, limit=receive_bytes))
            connections.append(connection)
            head = f"GET {address_of(job.id)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.key}\r\n"
            connection.writer.write(f"{head}Connection: close\r\n\r\n".encode())
            return connection

        try:
            yield open_stream
        finally:
            for connection in connections:
                connection.hang_up()
            await asyncio.sleep(0)  # transports close in the loop's next round

    def connections(self) -> int:
        """Those that the process holds open."""
        found = self.process.net_connections("tcp")
        return sum(item.laddr.port == self.port and item.status != psutil.CONN_LISTEN for item in found)


@pytest.fixture
def serving(settings: Settings, api_key: str, unused_port: int) -> Iterator[Serving]:
    """`tailor serve` with its defaults, as a process of its own."""
    assert settings.database_url is not None
    url = make_url(settings.database_url).update_query_dict({"application_name": APPLICATION})
    named = settings.model_copy(update={"database_url": url.render_as_string(hide_password=False)})
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "serve.log"
        command = [sys.executable, "-m", "app.cli", "serve", "--port", str(unused_port)]
        with log.open("wb") as output:
            server = subprocess.Popen(command, env=environment(named), stdout=output, stderr=output)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{unused_port}") as client:
                wait_until(lambda: answers(client), 60)
            yield Serving(unused_port, api_key, psutil.Process(server.pid), log)
        finally:
            server.kill()
            server.wait(20)


def backends(sessions: SessionFactory, name: str) -> int:
    with transaction(sessions) as session:
        query = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = :name")
        return session.scalars(query, {"name": name}).one()


def test_500_streams_cost_neither_a_thread_nor_a_database_connection_each(
    serving: Serving, over_http: Scenery, sessions: SessionFactory
) -> None:
    jobs = [over_http.running_job() for _ in range(JOBS)]
    server = serving.process

    async def watch() -> None:
        async with serving.crowd() as open_stream:
            first = await open_stream(jobs[0])
            await first.read_until("event: progress")
            memory, listening = server.memory_info().rss, backends(sessions, LISTENER)

            streams = [(await open_stream(jobs[number % JOBS]), number % JOBS) for number in range(STREAMS)]
            await asyncio.gather(*(stream.read_until("event: progress") for stream, _ in streams))
            for number, job in enumerate(jobs):
                await asyncio.to_thread(tell, sessions, job, f"news {number}")
            await asyncio.gather(*(stream.read_until(f"news {number}") for stream, number in streams))

            assert serving.connections() == STREAMS + 1
            assert server.num_threads() < 40  # of which 20 are those that any requests work in
            assert backends(sessions, APPLICATION) <= 20
            assert backends(sessions, LISTENER) == listening
            assert server.memory_info().rss - memory < 64 * MIB

            for stream, _ in streams[: STREAMS // 2]:
                stream.hang_up()
            await asyncio.to_thread(wait_until, lambda: serving.connections() == STREAMS // 2 + 1, TIMEOUT_S)
            for job in jobs:
                await asyncio.to_thread(finish, sessions, job)
            for rest in await asyncio.gather(*(stream.read_to_the_end() for stream, _ in streams[STREAMS // 2 :])):
                assert rest.endswith(b"event: done\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    asyncio.run(watch())
    wait_until(lambda: serving.connections() == 0, TIMEOUT_S)


def test_clients_that_do_not_read_cost_no_memory_and_get_everything_in_the_end(
    serving: Serving, over_http: Scenery, sessions: SessionFactory
) -> None:
    job = over_http.running_job()
    server = serving.process

    async def watch() -> None:
        async with serving.crowd() as open_stream:
            slow = [await open_stream(job, receive_bytes=4096) for _ in range(30)]
            quick = await open_stream(job)
            await quick.read_until("event: progress")
            memory = server.memory_info().rss
            for number in range(40):
                long = str(number).ljust(5000, ".")
                await asyncio.to_thread(tell, sessions, job, *[f"{long}{part}" for part in range(100)])
            await asyncio.to_thread(finish, sessions, job)
            assert len(await quick.read_to_the_end()) > 20_000_000
            assert server.memory_info().rss - memory < 64 * MIB  # of 600 if each had a queue of its own

            expected = stored_ids(sessions, job)
            for stream in slow[:2]:
                lines = (await stream.read_to_the_end()).split(b"\n")
                assert [line[4:].decode() for line in lines if line.startswith(b"id: ")] == expected

    asyncio.run(watch())


def test_open_streams_do_not_hold_up_the_end_of_the_process(
    serving: Serving, over_http: Scenery, sessions: SessionFactory
) -> None:
    job = over_http.running_job()

    async def watch() -> list[bytes]:
        async with serving.crowd() as open_stream:
            streams = [await open_stream(job) for _ in range(50)]
            await asyncio.gather(*(stream.read_until("event: progress") for stream in streams))
            serving.process.send_signal(signal.SIGTERM)
            return await asyncio.gather(*(stream.read_to_the_end() for stream in streams))

    ends = asyncio.run(watch())
    serving.process.wait(TIMEOUT_S)

    for rest in ends:
        assert b"event: done" not in rest  # the job goes on
        assert rest.endswith(b"0\r\n\r\n")  # and the answer is whole
    assert "graceful shutdown exceeded" not in serving.log.read_text()
