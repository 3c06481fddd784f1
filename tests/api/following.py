"""Clients that read a job's event stream as it comes, and the worker that gives them something to read."""

import json
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import httpx
from httpx_sse import EventSource, ServerSentEvent

from app.db import SessionFactory, transaction
from app.jobs import events, leases
from app.jobs.events import Event
from app.jobs.leases import Progress
from app.tables import Job, JobEvent
from tests.api.scenery import LEASE
from tests.api.test_uploads import wait_until

HISTORY = ("message", "metrics")


def address_of(job_id: str) -> str:
    return f"/v1/fine_tuning/jobs/{job_id}/events?stream=true"


class Follower:
    """One connection, read in a thread. `done` once the stream has ended, `failure` if it was not in good order."""

    def __init__(self, url: str, key: str, job_id: str, after: str | None = None, query: str = "") -> None:
        headers = {"authorization": f"Bearer {key}"} | ({"last-event-id": after} if after else {})
        self.received: list[ServerSentEvent] = []
        self.text = ""
        self.response: httpx.Response | None = None
        self.failure: Exception | None = None
        self._address = f"{url}{address_of(job_id)}{query}"
        self._headers = headers
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        try:
            with httpx.stream("GET", self._address, headers=self._headers, timeout=60) as response:
                self.response = response
                if response.status_code == 200:
                    self._record(response)
                    for event in EventSource(response).iter_sse():
                        self.received.append(event)
        except httpx.HTTPError as error:
            self.failure = error

    def _record(self, response: httpx.Response) -> None:
        pieces = response.iter_text()

        def recorded() -> Any:
            for piece in pieces:
                self.text += piece
                yield piece

        response.iter_text = recorded  # type: ignore[method-assign]

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    @property
    def history(self) -> list[ServerSentEvent]:
        return [event for event in list(self.received) if event.event in HISTORY]

    @property
    def ids(self) -> list[str]:
        return [event.id for event in self.history]

    @property
    def messages(self) -> list[str]:
        return [json.loads(event.data)["message"] for event in self.history]

    @property
    def progress(self) -> list[dict[str, Any]]:
        return [json.loads(event.data) for event in list(self.received) if event.event == "progress"]

    def wait_for(self, message: str) -> None:
        wait_until(lambda: message in self.messages)

    def wait_for_the_end(self) -> None:
        wait_until(lambda: self.done)

    def hang_up(self) -> None:
        """Break the connection as a network does."""
        if self.response is not None and not self.done:
            stream = self.response.extensions["network_stream"]
            raw: socket.socket = stream.get_extra_info("socket")
            with suppress(OSError):
                raw.shutdown(socket.SHUT_RDWR)
        self._thread.join(30)


def tell(sessions: SessionFactory, job: Job, *messages: str, data: Mapping[str, Any] | None = None) -> None:
    """What a worker does with its child's words."""
    assert job.lease_token is not None
    with transaction(sessions) as session:
        assert leases.hold(session, job.lease_token) is not None
        events.append(session, job.id, [Event(message, data=dict(data or {})) for message in messages])


def show(sessions: SessionFactory, job: Job, step: int) -> None:
    """A worker's sign of life with new progress."""
    assert job.lease_token is not None
    values = {"step": step, "total_steps": 10, "epoch": step / 10, "examples_per_second": 50.0, "trained_tokens": 1}
    with transaction(sessions) as session:
        assert leases.renew(session, job.lease_token, lease=LEASE, progress=Progress(values, eta_s=60)) is not None


def finish(sessions: SessionFactory, job: Job, message: str = "Job succeeded") -> None:
    assert job.lease_token is not None
    with transaction(sessions) as session:
        assert leases.finish(session, job.lease_token, "succeeded", Event(message)) is not None


def stored_ids(sessions: SessionFactory, job: Job) -> list[str]:
    """The job's events as they should be seen, oldest first."""
    with transaction(sessions) as session:
        return [id_ for (id_,) in session.query(JobEvent.id).filter_by(job_id=job.id).order_by(JobEvent.seq)]
