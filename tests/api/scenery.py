"""States that a worker would bring about, reached through the services, since no worker runs in these tests."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx

from app.db import SessionFactory, transaction
from app.files import service as files
from app.jobs import events, leases, preparations, validation
from app.jobs.events import Event, MetricPoint
from app.registry import models
from app.registry.base_models import STARTER
from app.registry.models import PublishedFile
from app.storage.blobs import put
from app.storage.database import DatabaseBlobStore
from app.tables import Checkpoint, Job, Model, new_id

LEASE = timedelta(minutes=1)
ROWS = b'{"text": "good", "label": "positive"}\n{"text": "bad", "label": "negative"}\n'
REPORT: dict[str, Any] = {
    "task": "text-classification",
    "options": {"problem_type": "single_label_classification"},
    "rows": 2,
    "labels": {"positive": 1, "negative": 1},
}


@dataclass
class Scenery:
    """A project's key in the hands of a client, and the workers' side of the database."""

    client: httpx.Client
    sessions: SessionFactory
    blobs: DatabaseBlobStore

    def upload(self, content: bytes = ROWS, filename: str = "train.jsonl", **form: str) -> dict[str, Any]:
        response = self.client.post(
            "/v1/files", data={"purpose": "fine-tune"} | form, files={"file": (filename, content)}
        )
        assert response.status_code == 200, response.text
        return response.json()

    def create_job(self, **fields: Any) -> dict[str, Any]:
        body = {"model": STARTER, "training_file": fields.pop("training_file", None) or self.upload()["id"]} | fields
        response = self.client.post("/v1/fine_tuning/jobs", json=body)
        assert response.status_code == 200, response.text
        return response.json()

    def claim(self, queue: str) -> Job:
        with transaction(self.sessions) as session:
            job = leases.claim(session, owner="worker", queues=[queue], lease=LEASE)
        assert job is not None
        return job

    def prepare(self, report: dict[str, Any] | None = None, error: dict[str, Any] | None = None) -> None:
        """End the oldest preparation, then move the jobs that waited for it."""
        job = self.claim("control")
        assert job.lease_token is not None
        assert job.preparation_id is not None
        records = put(self.blobs, [b"records"])
        with transaction(self.sessions) as session:
            leases.finish(session, job.lease_token, "succeeded", Event("Prepared"))
            if error is not None:
                preparations.fail(session, job.preparation_id, error)
            else:
                preparations.succeed(session, job.preparation_id, records, report or REPORT)
            validation.advance(session)

    def running_job(self, **fields: Any) -> Job:
        """A job that a worker holds, its files prepared."""
        created = self.create_job(**fields)
        with transaction(self.sessions) as session:
            waiting = session.query(Job).where(Job.queue == "control", Job.status == "queued").count()
        for _ in range(waiting):
            self.prepare()
        job = self.claim("training")
        assert job.id == created["id"]
        return job

    def succeeded_job(self, contents: dict[str, bytes] | None = None, **fields: Any) -> Job:
        """A job with metrics, a checkpoint, a result file and a published model."""
        job = self.running_job(**fields)
        assert job.lease_token is not None
        model_id = job.spec["fine_tuned_model"]
        published = [
            PublishedFile(path, put(self.blobs, [data]))
            for path, data in (contents or {"config.json": b"{}", "model.safetensors": b"weights" * 300_000}).items()
        ]
        results = put(self.blobs, [b"step,train_loss\n1,0.5\n"])
        with transaction(self.sessions) as session:
            points = [MetricPoint("train", "loss", step, step / 2, 1 / step) for step in (1, 2, 3)]
            events.record_metrics(session, job.id, points)
            for step in (1, 2):
                weights = Model(
                    id=models.checkpoint_id(model_id, step),
                    project_id=job.project_id,
                    kind="checkpoint",
                    job_id=job.id,
                    bytes=1,
                )
                session.add(weights)
                session.flush()
                session.add(
                    Checkpoint(
                        id=new_id("ftckpt"),
                        job_id=job.id,
                        step=step,
                        best=step == 2,
                        metrics={"train_loss": 0.5},
                        model_id=weights.id,
                    )
                )
            model = Model(
                id=model_id,
                project_id=job.project_id,
                kind="fine_tuned",
                family="bert",
                task="text-classification",
                labels=["negative", "positive"],
                parent=job.model,
                job_id=job.id,
                metrics={"accuracy": 1.0},
                bytes=sum(file.blob.bytes for file in published),
            )
            models.publish(session, model, published)
            result = files.add_result(session, job.project_id, "metrics.csv", results)
            ended = leases.finish(
                session,
                job.lease_token,
                "succeeded",
                Event("Job succeeded"),
                fine_tuned_model=model_id,
                result_files=[result.id],
                trained_tokens=12,
                metrics={"accuracy": 1.0},
            )
        assert ended is not None
        return ended

    def add_base_model(self, id_: str = STARTER, *, family: str | None = "bert", problem: str | None = None) -> None:
        with transaction(self.sessions) as session:
            status = "error" if problem else "ready"
            facts = {"family": family, "max_length": 512, "status": status, "problem": problem}
            session.add(Model(id=id_, kind="base", bytes=90_000_000, **facts))

    def count(self, table: type) -> int:
        with transaction(self.sessions) as session:
            return session.query(table).count()
