"""A worker in this process: real leases, real child processes, a tiny random encoder."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.catalog.tasks import TEXT_CLASSIFICATION
from app.db import SessionFactory, transaction
from app.files import service as files
from app.files.service import NewFile
from app.jobs import leases, service
from app.jobs.service import NewJob
from app.projects import Caller
from app.settings import Settings
from app.storage.blobs import put
from app.storage.database import DatabaseBlobStore
from app.tables import Job
from tests.contract.tiny import write_tiny_encoder
from tests.worker.forked import Forking, forking
from worker.context import WorkerContext
from worker.supervisor import supervise
from worker.tick import Rounds

TINY = "local/tiny"
DEADLINE_S = 60


@pytest.fixture(scope="session")
def base_models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    write_tiny_encoder(directory / "tiny")
    return directory


@pytest.fixture(scope="session")
def standby() -> Iterator[Forking]:
    """Children that are there at once: importing torch and Transformers takes 7 s of a processor, and dozens run here.

    `test_child.py`, tests of the whole stack and those that say so have ordinary ones.
    """
    with forking() as standby:
        yield standby


@pytest.fixture
def context(
    settings: Settings,
    sessions: SessionFactory,
    blobs: DatabaseBlobStore,
    base_models_dir: Path,
    standby: Forking,
) -> WorkerContext:
    quick = settings.model_copy(
        update={"base_models_dir": base_models_dir, "renew_s": 0.2, "cancel_grace_s": 20, "drain_grace_s": 20}
    )
    context = WorkerContext(quick, sessions, blobs, "test-worker", threading.Event(), standby, lambda _: None)
    Rounds(context).scan()
    return context


class Bench:
    """Drives jobs the way a client and a worker would."""

    def __init__(self, context: WorkerContext, caller: Caller) -> None:
        self.context = context
        self.caller = caller

    def upload(self, text: str, name: str = "reviews.jsonl") -> str:
        blob = put(self.context.blobs, [text.encode()])
        with transaction(self.context.sessions) as session:
            return files.create(session, self.caller, NewFile(name, "fine-tune", blob), self.context.settings).id

    def create(self, file_id: str, *, model: str = TINY, **fields) -> str:
        """Create a job and prepare its files for it."""
        with transaction(self.context.sessions) as session:
            new = NewJob(model, file_id, **fields)
            job_id = service.create(session, self.caller, new, self.context.settings).id
        while self.run_next("control"):  # lengths are counted anew in the tokens of the job's model
            pass
        return job_id

    def job(self, job_id: str) -> Job:
        with transaction(self.context.sessions) as session:
            return session.get(Job, job_id)

    def run_next(self, queue: str, context: WorkerContext | None = None) -> Job | None:
        """Claim one job and supervise this attempt."""
        used = context or self.context
        with transaction(used.sessions) as session:
            job = leases.claim(session, owner=used.owner, queues=[queue], lease=used.lease)
        if job is not None:
            supervise(used, job)
        return self.job(job.id) if job is not None else None

    def in_thread(self, queue: str, context: WorkerContext | None = None) -> threading.Thread:
        thread = threading.Thread(target=self.run_next, args=(queue, context))
        thread.start()
        return thread

    def wait(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, "the condition was not met in time"
            time.sleep(0.02)

    def wait_for_step(self, job_id: str, step: int) -> None:
        self.wait(lambda: (self.job(job_id).progress or {}).get("step", 0) >= step)

    def messages(self, job_id: str) -> list[str]:
        with transaction(self.context.sessions) as session:
            events, _ = service.events.page(session, job_id, after=None, limit=10_000)
        return [event.message for event in reversed(events)]


@pytest.fixture
def bench(context: WorkerContext, caller: Caller) -> Bench:
    return Bench(context, caller)


@pytest.fixture
def rows() -> str:
    return "".join(json.dumps(row) + "\n" for row in TEXT_CLASSIFICATION.variants[0].example)


@pytest.fixture
def prepared(bench: Bench, rows: str) -> str:
    """A prepared file of the catalogue's eight example rows."""
    file_id = bench.upload(rows)
    prepared = bench.run_next("control")
    assert prepared is not None
    assert prepared.status == "succeeded"
    return file_id
