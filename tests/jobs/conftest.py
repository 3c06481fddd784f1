import itertools
from collections.abc import Callable
from datetime import timedelta

import pytest

from app.db import SessionFactory, transaction
from app.files import service as files
from app.files.service import NewFile
from app.jobs import leases, preparations, service
from app.jobs.service import NewJob
from app.projects import Caller
from app.registry.base_models import STARTER
from app.settings import Settings
from app.storage.blobs import put
from app.storage.database import DatabaseBlobStore
from app.tables import File, Job, Model, Preparation

LEASE = timedelta(seconds=60)
EXPIRED = timedelta(seconds=-1)


@pytest.fixture
def starter(sessions: SessionFactory) -> str:
    with transaction(sessions) as session:
        session.add(Model(id=STARTER, kind="base", family="bert", bytes=90_000_000, max_length=512))
    return STARTER


@pytest.fixture
def upload(
    sessions: SessionFactory, caller: Caller, blobs: DatabaseBlobStore, settings: Settings, starter: str
) -> Callable[..., str]:
    """Upload text; `report` or `error` is what its preparation comes to at once, without a worker."""
    number = itertools.count()

    def do(*, report: dict | None = None, error: dict | None = None, text: str | None = None) -> str:
        blob = put(blobs, [(text or f"content {next(number)}").encode()])
        with transaction(sessions) as session:
            file = files.create(session, caller, NewFile("reviews.jsonl", "fine-tune", blob), settings)
            settle(session, blobs, file, report, error)
            return file.id

    return do


def settle(session, blobs: DatabaseBlobStore, file: File, report: dict | None, error: dict | None) -> None:
    preparation = session.get(Preparation, file.preparation_id)
    if report is None and error is None:
        return
    job = session.query(Job).filter(Job.preparation_id == preparation.id).one_or_none()
    if job is None:
        return
    claimed = leases.claim(session, owner="preparer", queues=["control"], lease=LEASE)
    assert claimed is not None
    assert claimed.id == job.id
    if report is not None:
        leases.finish(session, claimed.lease_token, "succeeded", leases.Event("prepared"))
        preparations.succeed(session, preparation.id, put(blobs, [b"parquet"]), TOLD | report)
    else:
        leases.finish(session, claimed.lease_token, "failed", leases.Event("bad"), error=error)
        preparations.fail(session, preparation.id, error)


TOLD = {"task": "text-classification", "options": {"problem_type": "single_label_classification"}}
GOOD = TOLD | {"rows": 4, "labels": {"good": 2, "bad": 2}}


@pytest.fixture
def queued_job(
    sessions: SessionFactory, caller: Caller, settings: Settings, upload: Callable[..., str], starter: str
) -> Callable[[], str]:
    """Create fine-tuning jobs that wait for a worker."""

    def do(**fields) -> str:
        file = upload(report=GOOD)
        with transaction(sessions) as session:
            job = service.create(session, caller, NewJob(starter, file, **fields), settings)
            assert job.status == "queued"
            return job.id

    return do
