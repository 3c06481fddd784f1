"""Event streams while nothing happens: comments keep them open, and keys are checked again."""

import itertools
import threading
from collections.abc import Iterator

import httpx
import pytest
from openai import OpenAI, Stream
from openai.types.fine_tuning import FineTuningJobEvent

from app.db import SessionFactory, transaction
from app.main import create_app
from app.projects import create_key, revoke_key
from app.settings import Settings
from app.tables import Job
from tests.api.conftest import headers_of, serve
from tests.api.following import Follower, address_of, finish, stored_ids, tell
from tests.api.scenery import Scenery
from tests.api.test_uploads import wait_until


@pytest.fixture
def job(over_http: Scenery) -> Job:
    """A job that a worker holds."""
    return over_http.running_job()


@pytest.fixture
def restless(api_settings: Settings, sessions: SessionFactory) -> Iterator[str]:
    """The URL of a server that sends heartbeats and polls all the time."""
    yield from serve(create_app(api_settings.model_copy(update={"stream_heartbeat_s": 0.1, "stream_poll_s": 0.2})))


def test_a_stream_ends_when_its_key_is_revoked(restless: str, job: Job, sessions: SessionFactory, api_key: str) -> None:
    with transaction(sessions) as session:
        info, key = create_key(session, name="leaver")
    leaver, stayer = Follower(restless, key, job.id), Follower(restless, api_key, job.id)
    leaver.wait_for("Job started")
    with transaction(sessions) as session:
        revoke_key(session, info.id)
    leaver.wait_for_the_end()
    tell(sessions, job, "secret")
    stayer.wait_for("secret")
    stayer.hang_up()

    assert leaver.failure is None
    assert "secret" not in leaver.messages
    assert "done" not in {event.event for event in leaver.received}
    again = Follower(restless, key, job.id)
    again.wait_for_the_end()
    assert again.response is not None
    assert again.response.status_code == 401


def test_a_silent_stream_is_kept_open_by_comments(restless: str, job: Job, api_key: str) -> None:
    with (
        httpx.Client(base_url=restless, headers=headers_of(api_key), timeout=30) as client,
        client.stream("GET", address_of(job.id)) as response,
    ):
        lines = response.iter_lines()
        pings = itertools.islice((line for line in lines if line == ": ping"), 3)
        assert len(list(pings)) == 3


def test_the_official_sdk_reads_a_stream_to_its_end(
    restless: str, api_key: str, job: Job, sessions: SessionFactory
) -> None:
    def stream_of(client: OpenAI) -> Stream[FineTuningJobEvent]:
        return client.get(
            f"/fine_tuning/jobs/{job.id}/events",
            cast_to=FineTuningJobEvent,
            options={"params": {"stream": True}},
            stream=True,
            stream_cls=Stream[FineTuningJobEvent],
        )

    seen: list[FineTuningJobEvent] = []
    with OpenAI(base_url=f"{restless}/v1", api_key=api_key) as client:
        reader = threading.Thread(target=lambda: seen.extend(stream_of(client)))
        silent = Follower(restless, api_key, job.id)
        reader.start()
        wait_until(lambda: silent.text.count(": ping") >= 5)
        tell(sessions, job, "one")
        finish(sessions, job)
        reader.join(30)
        silent.wait_for_the_end()
        listed = list(client.fine_tuning.jobs.list_events(job.id))

    events = [event for event in seen if event.object == "fine_tuning.job.event"]
    assert [event.id for event in events] == stored_ids(sessions, job) == silent.ids
    assert events[-2].message == "one"
    assert [event.model_dump() for event in listed] == [event.model_dump() for event in events[::-1]]
