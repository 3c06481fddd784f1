"""Event streams while notifications, the listening connection or PostgreSQL are lost: nothing is missed or repeated."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from app.db import LISTENER, SessionFactory, close_engine, make_engine, migrate, session_factory, transaction
from app.embedded import start_postgres
from app.main import create_app
from app.projects import create_key
from app.settings import Settings
from app.storage.database import DatabaseBlobStore
from app.tables import Job
from tests.api.conftest import headers_of, serve
from tests.api.following import Follower, address_of, finish, stored_ids, tell
from tests.api.scenery import Scenery
from tests.api.test_access import error_of
from tests.api.test_uploads import wait_until


def listeners(sessions: SessionFactory) -> list[int]:
    """Backends of API processes that listen."""
    with transaction(sessions) as session:
        query = text("SELECT pid FROM pg_stat_activity WHERE application_name = :name AND query LIKE 'LISTEN%'")
        return list(session.scalars(query, {"name": LISTENER}))


def kill_listeners(sessions: SessionFactory) -> None:
    killed = listeners(sessions)
    assert killed
    with transaction(sessions) as session:
        for pid in killed:
            session.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    wait_until(lambda: not set(killed) & set(listeners(sessions)))


def tell_silently(sessions: SessionFactory, job: Job, message: str) -> None:
    """An event whose notification is lost."""
    with transaction(sessions) as session:
        session.execute(text("ALTER TABLE job_events DISABLE TRIGGER notify_job_events"))
    try:
        tell(sessions, job, message)
    finally:
        with transaction(sessions) as session:
            session.execute(text("ALTER TABLE job_events ENABLE TRIGGER notify_job_events"))


@pytest.fixture
def job(over_http: Scenery) -> Job:
    """A job that a worker holds."""
    return over_http.running_job()


@pytest.fixture
def deaf_follower(server: str, api_key: str, job: Job, sessions: SessionFactory) -> Iterator[Follower]:
    """A stream of the shared server, which never polls; it has got all there is, and its process listens."""
    follower = Follower(server, api_key, job.id)
    follower.wait_for("Job started")
    wait_until(lambda: bool(listeners(sessions)))
    yield follower
    follower.hang_up()


def test_a_lost_notification_delays_an_event_until_the_next_poll(
    api_settings: Settings, api_key: str, job: Job, sessions: SessionFactory, deaf_follower: Follower
) -> None:
    for url in serve(create_app(api_settings.model_copy(update={"stream_poll_s": 0.2}))):
        polled = Follower(url, api_key, job.id)
        polled.wait_for("Job started")
        tell_silently(sessions, job, "lost")
        polled.wait_for("lost")
        assert "lost" not in deaf_follower.messages
        tell(sessions, job, "heard")
        polled.wait_for("heard")
        deaf_follower.wait_for("heard")
        polled.hang_up()

        assert polled.ids == deaf_follower.ids == stored_ids(sessions, job)


def test_what_happens_while_the_listening_connection_is_dead_is_caught_up(
    deaf_follower: Follower, job: Job, sessions: SessionFactory
) -> None:
    for number in range(3):
        kill_listeners(sessions)
        tell(sessions, job, f"unheard {number}")
        deaf_follower.wait_for(f"unheard {number}")
        wait_until(lambda: bool(listeners(sessions)))
        tell(sessions, job, f"heard {number}")
        deaf_follower.wait_for(f"heard {number}")
    finish(sessions, job)
    deaf_follower.wait_for_the_end()

    assert deaf_follower.failure is None
    assert deaf_follower.ids == stored_ids(sessions, job)


class Stage:
    """A PostgreSQL that the test may stop and start, with a key and a running job in it."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self._folder = folder
        self.database = start_postgres(folder, durable=True)
        migrate(self.database.url)
        self.engine = make_engine(self.database.url)
        self.sessions = session_factory(self.engine)
        with transaction(self.sessions) as session:
            self.key = create_key(session, name="test")[1]
        self.settings = Settings(
            database_url=self.database.url, redis_url=redis_url, stream_heartbeat_s=0.1, stream_poll_s=0.2
        )

    def start_again(self) -> None:
        self.database = start_postgres(self._folder, durable=True)

    def running_job(self, url: str) -> Job:
        with httpx.Client(base_url=url, headers=headers_of(self.key), timeout=30) as client:
            scenery = Scenery(client, self.sessions, DatabaseBlobStore(self.sessions))
            scenery.add_base_model()
            return scenery.running_job()


@pytest.fixture
def stage(settings: Settings) -> Iterator[Stage]:
    """A PostgreSQL of the test's own."""
    assert settings.redis_url is not None
    with tempfile.TemporaryDirectory(prefix="tailor-tests-") as folder:
        stage = Stage(Path(folder) / "postgres", settings.redis_url)
        yield stage
        close_engine(stage.engine)
        stage.database.stop()


def beats_on(follower: Follower) -> None:
    """Wait for further heartbeats."""
    before = follower.text.count(": ping")
    wait_until(lambda: follower.text.count(": ping") >= before + 10)


def test_streams_stay_open_while_postgresql_is_away_and_go_on_afterwards(stage: Stage) -> None:
    for url in serve(create_app(stage.settings)):
        job = stage.running_job(url)
        followers = [Follower(url, stage.key, job.id) for _ in range(3)]
        for follower in followers:
            follower.wait_for("Job started")

        stage.database.stop()
        for follower in followers:
            beats_on(follower)
        refused = httpx.get(f"{url}{address_of(job.id)}", headers=headers_of(stage.key))
        assert (refused.status_code, error_of(refused)["code"]) == (503, "database_unavailable")
        assert not any(follower.done for follower in followers)

        stage.start_again()
        tell(stage.sessions, job, "back")
        for follower in followers:
            follower.wait_for("back")
        finish(stage.sessions, job)
        for follower in followers:
            follower.wait_for_the_end()
            assert follower.failure is None
            assert follower.ids == stored_ids(stage.sessions, job)


def test_a_stream_that_waits_for_a_dead_database_does_not_hold_up_the_end_of_the_server(stage: Stage) -> None:
    for url in serve(create_app(stage.settings), grace_s=60):
        follower = Follower(url, stage.key, stage.running_job(url).id)
        follower.wait_for("Job started")
        stage.database.stop()
        beats_on(follower)  # polled several times meanwhile
        asked_to_end = time.monotonic()
    follower.wait_for_the_end()

    assert time.monotonic() - asked_to_end < 20
    assert follower.failure is None
    assert follower.received[-1].event != "done"
