"""`GET /v1/fine_tuning/jobs/{id}/events?stream=true`: what a client sees."""

import itertools
import json
import random
import threading
from collections.abc import Callable, Iterator

import httpx
import pytest

from app.db import SessionFactory
from app.tables import Job
from tests.api.conftest import headers_of
from tests.api.following import Follower, address_of, finish, show, stored_ids, tell
from tests.api.scenery import Scenery
from tests.api.test_access import error_of
from tests.api.test_uploads import wait_until

Follow = Callable[..., Follower]


@pytest.fixture
def followers() -> Iterator[list[Follower]]:
    """Streams that the test has opened; none outlives it."""
    followers: list[Follower] = []
    yield followers
    for follower in followers:
        follower.hang_up()


@pytest.fixture
def follow(server: str, api_key: str, followers: list[Follower]) -> Follow:
    """Open streams of the shared server, which never polls: all it sends live, it was notified of."""

    def do(job: Job, after: str | None = None, query: str = "") -> Follower:
        followers.append(Follower(server, api_key, job.id, after, query))
        return followers[-1]

    return do


@pytest.fixture
def job(over_http: Scenery) -> Job:
    """A job that a worker holds."""
    return over_http.running_job()


def test_the_history_comes_first_then_what_happens_then_the_end(
    follow: Follow, job: Job, sessions: SessionFactory, http: httpx.Client
) -> None:
    follower = follow(job)
    follower.wait_for("Job started")
    tell(sessions, job, "one")
    follower.wait_for("one")
    assert not follower.done
    tell(sessions, job, "two", "three")
    finish(sessions, job)
    follower.wait_for_the_end()

    assert follower.failure is None
    assert follower.ids == stored_ids(sessions, job)
    assert follower.messages[0].startswith("Created fine-tuning job")
    assert follower.messages[-4:] == ["one", "two", "three", "Job succeeded"]
    assert (follower.received[-1].event, follower.received[-1].data) == ("done", "[DONE]")
    listed = http.get(f"/v1/fine_tuning/jobs/{job.id}/events?limit=1000").json()["data"]
    assert [json.loads(event.data) for event in follower.history] == listed[::-1]
    assert [event.event for event in follower.history] == [event["type"] for event in listed[::-1]]


def test_a_stream_is_not_cached_compressed_or_held_back(follow: Follow, job: Job) -> None:
    follower = follow(job)
    follower.wait_for("Job started")

    assert follower.response is not None
    headers = follower.response.headers
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["cache-control"] == "no-cache"
    assert headers["x-accel-buffering"] == "no"
    assert headers["x-request-id"].startswith("req-")
    assert "content-encoding" not in headers
    assert "content-length" not in headers


@pytest.mark.parametrize("by", ["Last-Event-ID", "after"])
def test_a_dropped_connection_goes_on_behind_the_last_event_it_got(
    by: str, follow: Follow, job: Job, sessions: SessionFactory
) -> None:
    first = follow(job)
    tell(sessions, job, "one", "two")
    first.wait_for("two")
    first.hang_up()
    tell(sessions, job, "three")

    last = first.ids[-1]
    second = follow(job, last) if by == "Last-Event-ID" else follow(job, None, f"&after={last}")
    second.wait_for("three")
    tell(sessions, job, "four")
    second.wait_for("four")

    assert second.messages == ["three", "four"]
    assert first.ids + second.ids == stored_ids(sessions, job)


def test_the_header_beats_the_query_as_an_event_source_repeats_its_first_address(
    follow: Follow, job: Job, sessions: SessionFactory
) -> None:
    tell(sessions, job, "one", "two")
    ids = stored_ids(sessions, job)

    follower = follow(job, ids[-2], f"&after={ids[0]}")
    follower.wait_for("two")

    assert follower.messages == ["two"]


def test_clients_that_lose_their_connection_again_and_again_get_every_event_once(
    follow: Follow, job: Job, sessions: SessionFactory
) -> None:
    dice = random.Random(13)
    stop = threading.Event()

    def work() -> None:
        for number in itertools.count():
            tell(sessions, job, *[f"{number}.{part}" for part in range(dice.randint(1, 40))])
            if stop.wait(0.005):
                return

    worker = threading.Thread(target=work)
    worker.start()
    got: list[str] = []
    try:
        for _ in range(15):
            follower = follow(job, got[-1] if got else None)
            wanted = dice.randint(1, 100)
            wait_until(lambda follower=follower, wanted=wanted: len(follower.ids) >= wanted)
            follower.hang_up()
            got += follower.ids
    finally:
        stop.set()
        worker.join()
    finish(sessions, job)
    last = follow(job, got[-1])
    last.wait_for_the_end()

    assert got + last.ids == stored_ids(sessions, job)


def test_a_history_of_many_reads_comes_whole_and_in_order(follow: Follow, job: Job, sessions: SessionFactory) -> None:
    tell(sessions, job, *[str(number) for number in range(1000)])
    finish(sessions, job)

    follower = follow(job)
    follower.wait_for_the_end()

    assert follower.ids == stored_ids(sessions, job)
    assert follower.text.count("event: progress") == 1


def test_progress_is_live_and_moves_nobodys_place(follow: Follow, job: Job, sessions: SessionFactory) -> None:
    follower = follow(job)
    wait_until(lambda: len(follower.progress) == 1)
    show(sessions, job, step=4)
    wait_until(lambda: len(follower.progress) == 2)
    show(sessions, job, step=8)
    wait_until(lambda: len(follower.progress) == 3)
    finish(sessions, job)
    follower.wait_for_the_end()

    assert [(item["status"], item["step"]) for item in follower.progress] == [
        ("running", None),
        ("running", 4),
        ("running", 8),
        ("succeeded", 8),
    ]
    shown = follower.progress[1]
    assert (shown["object"], shown["fine_tuning_job_id"]) == ("fine_tuning.job.progress", job.id)
    assert (shown["total_steps"], shown["epoch"], shown["examples_per_second"]) == (10, 0.4, 50.0)
    assert shown["estimated_finish"] > 0
    for block in follower.text.split("\n\n"):
        assert ("\nid: " in block) == block.startswith(("event: message", "event: metrics")), block


def test_odd_characters_in_a_message_break_no_line(follow: Follow, job: Job, sessions: SessionFactory) -> None:
    odd = "a\r\nb\u2028c\u0085d: é 漢 \N{GRINNING FACE}\tdata: x\n\nevent: done"
    tell(sessions, job, odd, data={"odd": odd})

    follower = follow(job)
    follower.wait_for(odd)

    assert json.loads(follower.history[-1].data)["data"] == {"odd": odd}
    assert follower.text.isascii()


def test_a_job_that_ends_without_a_worker_ends_its_stream(follow: Follow, over_http: Scenery) -> None:
    created = over_http.create_job()
    follower = follow(Job(id=created["id"]))
    wait_until(lambda: len(follower.progress) == 1)

    over_http.client.post(f"/v1/fine_tuning/jobs/{created['id']}/cancel")
    follower.wait_for_the_end()

    assert follower.messages[-1] == "Job cancelled"
    assert follower.progress[-1]["status"] == "cancelled"
    assert follower.received[-1].event == "done"


def test_behind_the_last_event_of_an_ended_job_there_is_nothing_and_an_event_source_stops(
    http: httpx.Client, job: Job, sessions: SessionFactory
) -> None:
    last = stored_ids(sessions, job)[-1]
    finish(sessions, job)
    end = stored_ids(sessions, job)[-1]

    for answer in (
        http.get(address_of(job.id), headers={"last-event-id": end}),
        http.get(f"{address_of(job.id)}&after={end}"),
    ):
        assert (answer.status_code, answer.content) == (204, b"")
    rest = http.get(address_of(job.id), headers={"last-event-id": last})
    assert rest.status_code == 200
    assert rest.text.count("\nid: ") == 1
    assert rest.text.endswith("event: done\ndata: [DONE]\n\n")


@pytest.mark.parametrize("id_", ["ftevent-00", "nonsense", "x" * 5000, "%00", "é"])
def test_an_unknown_event_to_go_on_from_is_an_error_before_the_stream(
    id_: str, http: httpx.Client, job: Job, over_http: Scenery
) -> None:
    elsewhere = over_http.create_job()
    foreign = http.get(f"/v1/fine_tuning/jobs/{elsewhere['id']}/events").json()["data"][0]["id"]

    for name in (id_, foreign):
        answer = http.get(address_of(job.id), headers=[(b"last-event-id", name.encode("latin-1"))])
        assert answer.status_code == 404
        error = error_of(answer)
        assert (error["code"], error["param"]) == ("event_not_found", "Last-Event-ID")
        assert name in error["message"]
    answer = http.get(f"{address_of(job.id)}&after=nonsense")
    assert (answer.status_code, error_of(answer)["param"]) == (404, "after")


def test_an_empty_last_event_id_is_none(http: httpx.Client, job: Job, sessions: SessionFactory) -> None:
    finish(sessions, job)

    answer = http.get(address_of(job.id), headers={"last-event-id": ""})

    assert answer.text.count("\nid: ") == len(stored_ids(sessions, job))


@pytest.mark.parametrize(
    ("query", "param"), [("stream=perhaps", "stream"), ("stream=true&limit=5", "limit"), ("stream=true&from=1", "from")]
)
def test_what_a_stream_does_not_take_is_refused(query: str, param: str, http: httpx.Client, job: Job) -> None:
    answer = http.get(f"/v1/fine_tuning/jobs/{job.id}/events?{query}")

    assert (answer.status_code, error_of(answer)["param"]) == (400, param)


def test_keys_and_projects_are_checked_before_the_stream(
    server: str, http: httpx.Client, job: Job, other_key: str
) -> None:
    foreign = http.get(address_of(job.id), headers=headers_of(other_key))
    missing = http.get(address_of("ftjob-00"))
    unknown = http.get(address_of(job.id), headers=headers_of("tlr-unknown"))

    assert (foreign.status_code, error_of(foreign)["code"]) == (404, "job_not_found")
    assert (missing.status_code, error_of(missing)["code"]) == (404, "job_not_found")
    assert (unknown.status_code, error_of(unknown)["code"]) == (401, "invalid_api_key")
