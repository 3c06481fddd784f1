"""The feed between the database and event streams: how often it reads, and what it keeps."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence

import pytest
from sqlalchemy.exc import OperationalError

from app.api.event_stream import Page, read_pages
from app.api.feed import Feed
from app.db import SessionFactory
from app.jobs.news import Position
from app.main import create_app
from app.settings import Settings
from app.tables import Job
from tests.api.conftest import serve
from tests.api.following import Follower, tell
from tests.api.scenery import Scenery
from tests.api.test_uploads import wait_until

TIMEOUT_S = 30


class Reader:
    """Reads as the service does, and counts. `gate` holds reads back, `troubles` are raised first."""

    def __init__(self, sessions: SessionFactory) -> None:
        self.calls: list[list[Position]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.troubles: list[Exception] = []
        self._sessions = sessions

    def __call__(self, positions: Sequence[Position]) -> Mapping[Position, Page]:
        self.calls.append(list(positions))
        found = read_pages(self._sessions, positions)
        assert self.gate.wait(TIMEOUT_S)
        if self.troubles:
            raise self.troubles.pop(0)
        return found


@pytest.fixture
def reader(sessions: SessionFactory) -> Reader:
    return Reader(sessions)


@pytest.fixture
def with_feed(database_url: str, reader: Reader) -> Callable[[Callable[[Feed[Page]], Awaitable[None]]], None]:
    """Run something with a feed, in an event loop."""

    def run(work: Callable[[Feed[Page]], Awaitable[None]]) -> None:
        async def main() -> None:
            feed: Feed[Page] = Feed(database_url, reader, lambda _: (), poll_s=3600)
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    with feed.watch("ftjob-any", "key"):
                        await work(feed)
            finally:
                await feed.stop()

        asyncio.run(main())

    return run


@pytest.fixture
def job(over_http: Scenery) -> Job:
    """A job that a worker holds."""
    return over_http.running_job()


def test_500_streams_of_one_job_cost_one_read(with_feed: Callable, reader: Reader, job: Job) -> None:
    async def work(feed: Feed[Page]) -> None:
        pages = await asyncio.gather(*(feed.ask(Position(job.id)) for _ in range(500)))
        assert len({id(page) for page in pages}) == 1

    with_feed(work)
    assert reader.calls == [[Position(job.id)]]


def test_what_is_asked_during_a_read_is_answered_by_the_next_one_for_all_jobs_together(
    with_feed: Callable, reader: Reader, over_http: Scenery, sessions: SessionFactory
) -> None:
    jobs = [over_http.running_job() for _ in range(3)]

    async def work(feed: Feed[Page]) -> None:
        reader.gate.clear()
        early = feed.ask(Position(jobs[0].id))
        while not reader.calls:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(tell, sessions, jobs[0], "late news")
        late = [feed.ask(Position(job.id)) for job in jobs]
        reader.gate.set()
        assert b"late news" not in (await early).events
        pages = await asyncio.gather(*late)
        assert [b"late news" in page.events for page in pages] == [True, False, False]
        assert [page.end.job_id for page in pages] == [job.id for job in jobs]

    with_feed(work)
    assert [len(call) for call in reader.calls] == [1, 3]


def test_a_read_is_repeated_until_the_database_is_back(with_feed: Callable, reader: Reader, job: Job) -> None:
    reader.troubles = [OperationalError("SELECT", {}, Exception("gone")) for _ in range(2)]

    async def work(feed: Feed[Page]) -> None:
        assert b"Job started" in (await feed.ask(Position(job.id))).events

    with_feed(work)
    assert len(reader.calls) == 3


def test_a_bug_in_a_read_reaches_those_who_asked_and_nobody_else(with_feed: Callable, reader: Reader, job: Job) -> None:
    reader.troubles = [ZeroDivisionError()]

    async def work(feed: Feed[Page]) -> None:
        with pytest.raises(ZeroDivisionError):
            await feed.ask(Position(job.id))
        assert b"Job started" in (await feed.ask(Position(job.id))).events

    with_feed(work)


def test_a_job_that_is_gone_has_no_page(with_feed: Callable, job: Job) -> None:
    async def work(feed: Feed[Page]) -> None:
        gone, there = await asyncio.gather(feed.ask(Position("ftjob-gone")), feed.ask(Position(job.id)))
        assert gone is None
        assert there is not None

    with_feed(work)


def test_a_closed_feed_answers_all_who_wait_and_all_who_come_later(
    with_feed: Callable, reader: Reader, job: Job
) -> None:
    async def work(feed: Feed[Page]) -> None:
        reader.gate.clear()
        reading = feed.ask(Position(job.id))
        while not reader.calls:
            await asyncio.sleep(0.01)
        waiting = feed.ask(Position(job.id, 1))
        feed.close()
        reader.gate.set()
        assert await asyncio.gather(reading, waiting, feed.ask(Position(job.id))) == [None, None, None]

    with_feed(work)


def test_nothing_is_kept_of_a_stream_that_has_ended(
    api_settings: Settings, api_key: str, job: Job, sessions: SessionFactory
) -> None:
    app = create_app(api_settings)
    for url in serve(app):
        feed: Feed[Page] = app.state.serving.feed
        followers = [Follower(url, api_key, job.id) for _ in range(5)]
        for follower in followers:
            follower.wait_for("Job started")
        assert len(feed._watches[job.id]) == 5
        for follower in followers:
            follower.hang_up()
        wait_until(lambda feed=feed: not (feed._watches or feed._asked or feed._reading))
