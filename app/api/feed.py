"""News of jobs for any number of waiting streams: one LISTEN connection and one read at a time, whatever their number.

A stream keeps its position and nothing else: it reads behind it, sends, and waits until there is news. Streams at the
same position share one read, and all positions asked for while a read runs are answered by the next.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import Generic, TypeVar

import psycopg
from anyio.to_thread import run_sync
from psycopg.sql import SQL, Identifier
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.db import connect_for_listening
from app.jobs.news import CHANNEL, Position

logger = logging.getLogger(__name__)

DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeoutError)
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 2.0
POSITIONS_AT_ONCE = 100
GATHERING_S = 0.05  # between two reads; who asks meanwhile shares the next one

T = TypeVar("T")


class Watch:
    """One stream's interest in a job. `news` is done once something may have happened since `expect`."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.is_valid = True
        self.news: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def expect(self) -> None:
        """From here on, news is what comes from now on. Call it before a read: what that misses is news then."""
        self.news = asyncio.get_running_loop().create_future()

    def wake(self) -> None:
        """There may be news."""
        _settle(self.news, None)


class Feed(Generic[T]):
    """The process's ear and eye on jobs. Belongs to one event loop; it does nothing before the first watch.

    `read` answers for each position with what stands there, or leaves out one that nothing will come to any more;
    `void` picks those of some API keys that were revoked. Both ask the database and are run in a thread.
    """

    def __init__(
        self,
        database_url: str,
        read: Callable[[Sequence[Position]], Mapping[Position, T]],
        void: Callable[[Collection[str]], Collection[str]],
        *,
        poll_s: float,
    ) -> None:
        self._database_url = database_url
        self._read = read
        self._void = void
        self._poll_s = poll_s
        self._watches: dict[str, set[Watch]] = {}
        self._asked: dict[Position, asyncio.Future[T | None]] = {}
        self._reading: dict[Position, asyncio.Future[T | None]] = {}
        self._question = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._closed = False

    @contextmanager
    def watch(self, job_id: str, key: str) -> Generator[Watch]:
        """Hear of a job, as somebody with this API key."""
        if self._work is None:
            self._work = asyncio.create_task(self._run())
        watch = Watch(key)
        self._watches.setdefault(job_id, set()).add(watch)
        try:
            yield watch
        finally:
            self._watches[job_id].remove(watch)
            if not self._watches[job_id]:
                del self._watches[job_id]

    def ask(self, position: Position) -> asyncio.Future[T | None]:
        """What stands behind a position, by a read that begins after this call, however long the database is away.

        Ask within a watch. None: nothing will come any more, since the job is gone or the feed is closed.
        """
        if position not in self._asked:
            answer: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()
            if self._closed:
                answer.set_result(None)
                return answer
            self._asked[position] = answer
            self._question.set()
        return self._asked[position]

    def close(self) -> None:
        """End every stream, those that come later included."""
        self._closed = True
        for answer in (*self._asked.values(), *self._reading.values()):
            _settle(answer, None)
        self._asked.clear()
        self._wake_all()

    async def stop(self) -> None:
        """Close, and end what runs in the background."""
        self.close()
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._answer())
            tasks.create_task(self._poll())

    async def _listen(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                async with await connect_for_listening(self._database_url) as connection:
                    await connection.execute(SQL("LISTEN {}").format(Identifier(CHANNEL)))
                    pause_s = FIRST_PAUSE_S
                    self._wake_all()  # what happened while nobody listened
                    async with aclosing(connection.notifies()) as notifications:
                        async for notification in notifications:
                            self._wake(notification.payload)
            except (psycopg.Error, OSError) as error:
                logger.warning("cannot listen, again in %g s: %s", pause_s, _first_line(error))
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _answer(self) -> None:
        while True:
            await self._question.wait()
            while self._asked:
                positions = list(itertools.islice(self._asked, POSITIONS_AT_ONCE))
                # Taken out first: who asks from now on wants a read that has not begun yet.
                self._reading = {position: self._asked.pop(position) for position in positions}
                try:
                    found = await self._read_patiently(positions)
                except Exception as error:
                    for answer in self._reading.values():
                        if not answer.done():
                            answer.set_exception(error)
                else:
                    for position, answer in self._reading.items():
                        _settle(answer, found.get(position))
                self._reading = {}
                await asyncio.sleep(GATHERING_S)
            self._question.clear()

    async def _read_patiently(self, positions: Sequence[Position]) -> Mapping[Position, T]:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return await run_sync(self._read, positions, abandon_on_cancel=True)
            except DATABASE_AWAY as error:
                logger.warning("cannot read events, again in %g s: %s", pause_s, _first_line(error))
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _poll(self) -> None:
        """The net under LISTEN: a lost notification delays events and loses none. Revoked keys are found here."""
        while True:
            await asyncio.sleep(self._poll_s)
            self._wake_all()
            keys = {watch.key for watch in self._all_watches()}
            try:
                void = await run_sync(self._void, keys, abandon_on_cancel=True) if keys else ()
            except SQLAlchemyError as error:
                logger.warning("cannot check the keys of event streams: %s", _first_line(error))
                continue
            for watch in self._all_watches():
                if watch.key in void:
                    watch.is_valid = False
                    watch.wake()

    def _all_watches(self) -> list[Watch]:
        return [watch for watches in self._watches.values() for watch in watches]

    def _wake(self, job_id: str) -> None:
        for watch in self._watches.get(job_id, ()):
            watch.wake()

    def _wake_all(self) -> None:
        for watch in self._all_watches():
            watch.wake()


def _settle(future: "asyncio.Future[T]", result: T) -> None:
    if not future.done():
        future.set_result(result)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
