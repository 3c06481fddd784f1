"""Fine-tuning: prepared files and a base model in, a fine-tuned model and its metrics out."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from app.catalog.hyperparameters import Hyperparameters
from app.catalog.plan import DataFile, TrainingPlan
from app.catalog.preprocessing import of_job
from app.db import transaction
from app.files.service import add_result
from app.jobs import leases
from app.jobs.events import Event
from app.registry import models
from app.registry.models import PublishedFile
from app.storage.blobs import BlobRef, get_file, put_file
from app.tables import Job
from worker import protocol
from worker.checkpoints import put_directory, restore
from worker.context import WorkerContext
from worker.kinds.inputs import data_of, fetch_model, further_inputs
from worker.stops import Limits, TimeLimit

SPLITS = (
    ("train", "training_file", "training_preparation"),
    ("validation", "validation_file", "validation_preparation"),
    ("test", "test_file", "test_preparation"),
)


@dataclass(frozen=True)
class StoredResult:
    """Blobs of a finished job."""

    model: list[PublishedFile]
    step_metrics: BlobRef | None


@dataclass(frozen=True)
class FineTuningKind:
    """Jobs that train."""

    uses_standby: bool = True
    resumes: bool = True

    def lay_out(self, context: WorkerContext, job: Job, run_dir: Path) -> TrainingPlan:
        """Fetch prepared files and models; from the second attempt on, the checkpoints too."""
        with transaction(context.sessions) as session:
            splits = {name: data_of(session, job, name, file, prepared) for name, file, prepared in SPLITS}
            further = further_inputs(session, job)
        data: dict[str, DataFile | None] = {}
        for name, split in splits.items():
            data[name] = split.data_file if split else None
            if split is not None:
                get_file(context.blobs, split.records, run_dir / split.data_file.path)
        assert data["train"] is not None
        assert job.model is not None
        assert job.seed is not None
        fetch_model(context, job.model, run_dir / "base", "model")
        further.fetch(context, run_dir)
        return TrainingPlan(
            job_id=job.id,
            attempt=job.attempt,
            task=job.spec["task"],
            adaptation=job.spec["adaptation"],
            hyperparameters=Hyperparameters(**job.hyperparameters),
            preprocessing=of_job(job.spec),
            seed=job.seed,
            model=job.model,
            fine_tuned_model=job.spec["fine_tuned_model"],
            base="base",
            train=data["train"],
            validation=data["validation"],
            test=data["test"],
            target=further.target,
            method_files=further.method_files,
            method_models=further.method_models,
            resume_from=restore(context, job, run_dir),
            checkpoint_interval_s=context.settings.checkpoint_interval_s,
            memory_bytes=context.settings.job_memory_bytes,
        )

    def store(self, context: WorkerContext, job: Job, run_dir: Path, result: protocol.Result) -> StoredResult:
        """Store the artifact and the step metrics."""
        assert result.artifact is not None
        csv = put_file(context.blobs, run_dir / result.step_metrics_csv) if result.step_metrics_csv else None
        return StoredResult(put_directory(context, run_dir / result.artifact, result.artifact_files), csv)

    def succeed(self, session: Session, job: Job, result: protocol.Result, stored: StoredResult) -> Job | None:
        """Finish and publish the model and the result file by pointer."""
        assert job.lease_token is not None
        model_id = job.spec["fine_tuned_model"]
        finished = leases.finish(
            session,
            job.lease_token,
            "succeeded",
            Event(f"New fine-tuned model created: {model_id}", data={"model": model_id}),
            fine_tuned_model=model_id,
            metrics=result.metrics,
            trained_tokens=result.trained_tokens,
        )
        if finished is None:
            return None
        size = sum(file.blob.bytes for file in stored.model)
        model = models.made_by(
            session,
            finished,
            model_id,
            "fine_tuned",
            task=finished.spec["task"]["type"],
            size=size,
            metrics=result.metrics,
            labels=result.labels,
        )
        models.publish(session, model, stored.model)
        if stored.step_metrics is not None:
            file = add_result(session, job.project_id, f"{job.id}-step-metrics.csv", stored.step_metrics)
            finished.result_files = [file.id]
        return finished

    def ended(self, session: Session, job: Job) -> None:
        """Nothing else depends on a fine-tuning job."""

    def limits(self, context: WorkerContext, job: Job) -> Limits:
        """What is left of the job's own limit; without one, training takes as long as it makes progress."""
        settings = context.settings
        if job.time_limit_s is None:
            return Limits(None, settings.hang_timeout_s)
        failure = protocol.Failure(
            "user_error",
            "time_limit_reached",
            f"The job has run for {job.time_limit_s} s, which is its time limit. Its checkpoints are kept: start a job "
            "from the last one, or one with a higher time_limit_s or fewer epochs.",
            "time_limit_s",
        )
        left_s = max(0.0, job.time_limit_s - job.run_seconds)
        return Limits(TimeLimit(left_s, failure, settings.drain_grace_s), settings.hang_timeout_s)

    def success_event(self, job: Job) -> Event:
        """OpenAI's words."""
        return Event("The job has successfully completed")
