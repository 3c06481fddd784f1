"""Preparation: a file's bytes in, canonical records and a report out."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from app.catalog.plan import PreparationLimits, PreparationPlan
from app.db import transaction
from app.jobs import leases, preparations, validation
from app.jobs.events import Event
from app.registry import models
from app.settings import Settings
from app.storage.blobs import BlobRef, get_file, put_file
from app.tables import File, Job, Model, Preparation
from worker import base_models, protocol
from worker.context import WorkerContext
from worker.kinds import UnusableJobError
from worker.stops import Limits, TimeLimit


def limits_of(settings: Settings) -> PreparationLimits:
    """The bounds within which a child reads what came from outside."""
    return PreparationLimits(
        max_decompressed_bytes=settings.max_decompressed_bytes,
        max_row_bytes=settings.max_row_bytes,
        memory_bytes=settings.preparation_memory_bytes,
        timeout_s=settings.preparation_timeout_s,
    )


@dataclass(frozen=True)
class PreparationKind:
    """Jobs that read an uploaded file."""

    uses_standby: bool = False
    resumes: bool = False

    def lay_out(self, context: WorkerContext, job: Job, run_dir: Path) -> PreparationPlan:
        """Fetch the file, and the tokenizer that lengths are counted with where it is to be had."""
        with transaction(context.sessions) as session:
            preparation = session.get(Preparation, job.preparation_id)
            file = session.get(File, preparation.file_id) if preparation else None
            model = session.get(Model, preparation.model) if preparation and preparation.model else None
        if preparation is None or file is None or file.blob_id is None:
            raise UnusableJobError(protocol.Failure("user_error", "file_not_found", "The file was deleted."))
        get_file(context.blobs, file.blob_id, run_dir / "source")
        tokenizer, window = self._tokenizer(context, preparation.model, run_dir / "base")
        return PreparationPlan(
            job_id=job.id,
            attempt=job.attempt,
            source="source",
            filename=file.filename,
            task=preparation.task,
            options=preparation.options,
            columns=preparation.columns,
            extras=tuple(preparation.extras),
            model=preparation.model,
            fitting_tasks=None if model is None else tuple(models.fitting_tasks(model) or ()),
            tokenizer=tokenizer,
            max_length=window,
            limits=limits_of(context.settings),
        )

    def _tokenizer(self, context: WorkerContext, model: str | None, directory: Path) -> tuple[str | None, int | None]:
        if model is None:
            return None, None
        try:
            base = base_models.provide(context, model, directory, tokenizer_only=True)
        except base_models.ModelUnavailableError:
            return None, None  # the report then says that lengths in tokens are missing; the job itself names the model
        return (str(base.tokenizer) if base.tokenizer else None), base.max_length

    def store(self, context: WorkerContext, job: Job, run_dir: Path, result: protocol.Result) -> BlobRef:
        """Store the records."""
        assert result.records is not None
        return put_file(context.blobs, run_dir / result.records)

    def succeed(self, session: Session, job: Job, result: protocol.Result, stored: BlobRef) -> Job | None:
        """Publish records and report; jobs that waited for them go on."""
        assert job.lease_token is not None
        assert job.preparation_id is not None
        finished = leases.finish(session, job.lease_token, "succeeded", self.success_event(job))
        if finished is not None:
            preparations.succeed(session, job.preparation_id, stored, result.report or {})
            validation.advance(session)
        return finished

    def ended(self, session: Session, job: Job) -> None:
        """Tell the file's owner why; jobs that waited fail with the same reason."""
        preparations.settle_ended(session, [job])
        validation.advance(session)

    def limits(self, context: WorkerContext, job: Job) -> Limits:
        """The setting's; a parser that takes longer is not worth waiting for."""
        limit_s = context.settings.preparation_timeout_s
        message = f"Reading the file took longer than {limit_s:g} s (TAILOR_PREPARATION_TIMEOUT_S)."
        failure = protocol.Failure("user_error", "preparation_timeout", message)
        return Limits(TimeLimit(limit_s, failure, grace_s=0), None)

    def success_event(self, job: Job) -> Event:
        """A plain sentence."""
        return Event("File prepared")
