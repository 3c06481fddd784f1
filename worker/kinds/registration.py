"""Registration: an archive, or a repository of the hub, in; the files of a base model out."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from app.catalog.plan import RegistrationPlan
from app.db import transaction
from app.jobs import leases, registrations
from app.jobs.events import Event
from app.registry.models import PublishedFile
from app.storage.blobs import get_file
from app.tables import Job, StoredFile
from worker import base_models, protocol
from worker.checkpoints import put_directory
from worker.context import WorkerContext
from worker.kinds import UnusableJobError
from worker.kinds.preparation import limits_of
from worker.stops import Limits, TimeLimit

SOURCE = "source"


@dataclass(frozen=True)
class StoredModel:
    """Files of a model that has been checked, and the commit of the hub that they are of."""

    files: list[PublishedFile]
    revision: str | None


@dataclass(frozen=True)
class RegistrationKind:
    """Jobs that check a model which a project brings."""

    uses_standby: bool = False
    resumes: bool = False

    def lay_out(self, context: WorkerContext, job: Job, run_dir: Path) -> RegistrationPlan:
        """Fetch the archive from the blob store, or the repository from the hub."""
        assert job.model is not None
        source, revision = job.spec["source"], None
        if source["hub"] is None:
            self._fetch_archive(context, job, run_dir / SOURCE)
        else:
            try:
                revision = base_models.download(context, source["hub"], source["revision"], run_dir / SOURCE)
            except base_models.ModelUnavailableError as error:
                raise UnusableJobError(
                    protocol.Failure("user_error", "model_unavailable", str(error), "hub")
                ) from error
        return RegistrationPlan(
            job_id=job.id,
            attempt=job.attempt,
            source=SOURCE,
            filename=source["filename"] or source["hub"],
            revision=revision,
            model=job.model,
            limits=limits_of(context.settings),
        )

    def _fetch_archive(self, context: WorkerContext, job: Job, path: Path) -> None:
        with transaction(context.sessions) as session:
            archive = session.get(StoredFile, (job.id, registrations.ARCHIVE))
        if archive is None:  # and with it the job, by whoever deleted the model: nobody will read this
            raise UnusableJobError(protocol.Failure("user_error", "model_not_found", "The model was deleted."))
        get_file(context.blobs, archive.blob_id, path)

    def store(self, context: WorkerContext, job: Job, run_dir: Path, result: protocol.Result) -> StoredModel:
        """Store the model's files; bytes that are there already are found by their hash."""
        assert result.artifact is not None
        plan = RegistrationPlan.model_validate_json((run_dir / "plan.json").read_bytes())
        return StoredModel(put_directory(context, run_dir / result.artifact, result.artifact_files), plan.revision)

    def succeed(self, session: Session, job: Job, result: protocol.Result, stored: StoredModel) -> Job | None:
        """Publish the model."""
        assert job.lease_token is not None
        finished = leases.finish(session, job.lease_token, "succeeded", Event(f"Model {job.model} is ready"))
        if finished is not None:
            facts = (result.report or {}) | ({"revision": stored.revision} if stored.revision else {})
            registrations.succeed(session, finished, facts, stored.files)
        return finished

    def ended(self, session: Session, job: Job) -> None:
        """Leave the reason with the model."""
        registrations.settle_ended(session, [job])

    def limits(self, context: WorkerContext, job: Job) -> Limits:
        """As for the preparation of a file."""
        limit_s = context.settings.preparation_timeout_s
        message = f"Checking the model took longer than {limit_s:g} s (TAILOR_PREPARATION_TIMEOUT_S)."
        failure = protocol.Failure("user_error", "preparation_timeout", message)
        return Limits(TimeLimit(limit_s, failure, grace_s=0), None)

    def success_event(self, job: Job) -> Event:
        """A plain sentence."""
        return Event("Model registered")
