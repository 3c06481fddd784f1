"""Evaluation: a prepared file and a model in, metrics, a file of predictions and a report out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.catalog.plan import EvaluationPlan
from app.catalog.preprocessing import of_job
from app.catalog.tasks import TASKS
from app.db import transaction
from app.files.service import add_result
from app.jobs import leases
from app.jobs.evaluations import STATISTICS
from app.jobs.events import Event
from app.registry import models
from app.registry.models import PublishedFile
from app.storage.blobs import BlobRef, get_file, put_file
from app.tables import Job
from worker import protocol
from worker.context import WorkerContext
from worker.kinds.inputs import data_of, fetch_model
from worker.stops import Limits, TimeLimit

MODEL = "model"
RESULT_FILES = {"predictions": "predictions.jsonl", "report": "report.html"}  # and how their names end


@dataclass(frozen=True)
class EvaluationKind:
    """Jobs that score a model on a file."""

    uses_standby: bool = True
    resumes: bool = False

    def lay_out(self, context: WorkerContext, job: Job, run_dir: Path) -> EvaluationPlan:
        """Fetch the prepared file and the model."""
        with transaction(context.sessions) as session:
            data = data_of(session, job, "test", "test_file", "test_preparation")
        assert data is not None
        assert job.model is not None
        assert job.seed is not None
        get_file(context.blobs, data.records, run_dir / data.data_file.path)
        fetch_model(context, job.model, run_dir / MODEL, "model")
        return EvaluationPlan(
            job_id=job.id,
            attempt=job.attempt,
            task=job.spec["task"],
            model=job.model,
            directory=MODEL,
            data=data.data_file,
            seed=job.seed,
            slice_by=job.spec["slice_by"],
            max_length=job.spec["max_length"],
            precision=job.spec["precision"],
            preprocessing=of_job(job.spec) if job.spec["preprocessing"] else None,
            memory_bytes=context.settings.job_memory_bytes,
        )

    def store(self, context: WorkerContext, job: Job, run_dir: Path, result: protocol.Result) -> dict[str, BlobRef]:
        """Store what the child wrote."""
        return {name: put_file(context.blobs, run_dir / path) for name, path in result.outputs.items()}

    def succeed(self, session: Session, job: Job, result: protocol.Result, stored: dict[str, BlobRef]) -> Job | None:
        """Finish with the metrics, and publish the files."""
        assert job.lease_token is not None
        measured: dict[str, Any] = result.metrics["metrics"]
        headline = TASKS[job.spec["task"]["type"]].variant(job.spec["task"]).headline
        shown = ", ".join(f"{name}={measured[name]:.4g}" for name in headline if name in measured)
        values = {name: value for name, value in measured.items() if isinstance(value, float)}
        event = Event(f"Evaluated {job.model}: {shown}", type="metrics", data=values)
        finished = leases.finish(session, job.lease_token, "succeeded", event, metrics=result.metrics)
        if finished is None:
            return None
        finished.result_files = [
            add_result(session, job.project_id, f"{job.id}-{ending}", stored[name]).id
            for name, ending in RESULT_FILES.items()
        ]
        models.store_files(session, job.id, [PublishedFile(STATISTICS, stored["statistics"])])
        return finished

    def ended(self, session: Session, job: Job) -> None:
        """Nothing else depends on an evaluation."""

    def limits(self, context: WorkerContext, job: Job) -> Limits:
        """The installation's limit on jobs, if it has one."""
        settings = context.settings
        if job.time_limit_s is None:
            return Limits(None, settings.hang_timeout_s)
        message = (
            f"The evaluation has run for {job.time_limit_s} s, the most this installation allows "
            "(TAILOR_JOB_TIME_LIMIT_S). Evaluate on fewer rows."
        )
        failure = protocol.Failure("user_error", "time_limit_reached", message)
        left_s = max(0.0, job.time_limit_s - job.run_seconds)
        return Limits(TimeLimit(left_s, failure, settings.cancel_grace_s), settings.hang_timeout_s)

    def success_event(self, job: Job) -> Event:
        """A plain sentence."""
        return Event("The evaluation has successfully completed")
