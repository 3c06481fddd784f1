"""A control worker's sender in this process, a real HTTP server for its deliveries, and the database's side of both."""

import dataclasses
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from openai import OpenAI
from sqlalchemy import func, update

from app.db import SessionFactory, transaction
from app.jobs import leases
from app.jobs.events import Event
from app.jobs.leases import JobError
from app.projects import Caller
from app.settings import Settings
from app.storage.database import DatabaseBlobStore
from app.tables import Job, WebhookAttempt, WebhookDelivery, WebhookEndpoint, new_id
from app.webhooks import endpoints
from app.webhooks.endpoints import NewEndpoint
from app.webhooks.outbox import EVENT_TYPES
from tests.webhooks.receiver import Receiver, receiving
from worker.context import WorkerContext
from worker.process import Standby
from worker.webhooks import WebhookSender

DEADLINE_S = 60
SDK = OpenAI(api_key="unused")
SUCCEEDED = "fine_tuning.job.succeeded"


@pytest.fixture
def context(settings: Settings, sessions: SessionFactory, blobs: DatabaseBlobStore, tmp_path) -> WorkerContext:
    """A control worker's, with private addresses allowed, since the receiver is on this machine."""
    inside = settings.model_copy(update={"webhook_private_addresses": "on"})
    standby = Standby(enabled=False)
    return WorkerContext(inside, sessions, blobs, "test-worker", threading.Event(), standby, lambda _: None)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def sender(context: WorkerContext) -> Iterator[WebhookSender]:
    with WebhookSender(context) as sender:
        yield sender


def sender_with(context: WorkerContext, **settings) -> WebhookSender:
    """Another control worker's sender, with other settings."""
    other = context.settings.model_copy(update=settings)
    return WebhookSender(dataclasses.replace(context, settings=other))


class Desk:
    """The database's side: endpoints, jobs that end, and what became of their deliveries."""

    def __init__(self, sessions: SessionFactory, caller: Caller) -> None:
        self.sessions = sessions
        self.caller = caller

    def endpoint(self, url: str, *event_types: str) -> WebhookEndpoint:
        new = NewEndpoint("Test", url, event_types or EVENT_TYPES)
        with transaction(self.sessions) as session:
            return endpoints.create(session, self.caller, new, limit=1000)

    def running_job(self, kind: str = "fine_tuning", **fields) -> Job:
        with transaction(self.sessions) as session:
            job = Job(
                id=new_id("ftjob"),
                project_id=self.caller.project_id,
                kind=kind,
                queue="training",
                status="running",
                max_attempts=1,
                lease_token=uuid.uuid4(),
                lease_owner="worker",
                **{"attempt": 1, "lease_expires_at": func.now() + timedelta(minutes=1)} | fields,
            )
            session.add(job)
        return job

    def end_job(self, status: str = "succeeded") -> Job:
        job = self.running_job()
        error = JobError("system_error", "It broke.").to_json() if status == "failed" else None
        with transaction(self.sessions) as session:
            ended = leases.finish(session, job.lease_token, status, Event("The end"), error=error)
        assert ended is not None
        return ended

    def all(self, table: type) -> list:
        with transaction(self.sessions) as session:
            return session.query(table).order_by(getattr(table, "seq", None)).all()

    def delivery(self) -> WebhookDelivery:
        [delivery] = self.all(WebhookDelivery)
        return delivery

    def attempts(self) -> list[WebhookAttempt]:
        return sorted(self.all(WebhookAttempt), key=lambda attempt: attempt.number)

    def the_endpoint(self) -> WebhookEndpoint:
        [endpoint] = self.all(WebhookEndpoint)
        return endpoint

    def make_due(self, sender: WebhookSender | None = None) -> None:
        with transaction(self.sessions) as session:
            session.execute(
                update(WebhookDelivery).where(WebhookDelivery.status == "pending").values(next_attempt_at=func.now())
            )
        if sender is not None:
            sender.wake()

    def wait(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, "the condition was not met in time"
            time.sleep(0.02)

    def wait_for(self, status: str) -> WebhookDelivery:
        self.wait(lambda: self.delivery().status == status)
        return self.delivery()

    def wait_for_attempt(self, number: int) -> WebhookAttempt:
        """The attempt, once its outcome is written."""
        self.wait(lambda: any(a.number == number and a.duration_ms is not None for a in self.attempts()))
        return self.attempts()[number - 1]


@pytest.fixture
def desk(sessions: SessionFactory, caller: Caller) -> Desk:
    return Desk(sessions, caller)
