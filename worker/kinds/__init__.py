"""What differs between kinds of jobs: how a run directory is laid out and how a result is published."""

from pathlib import Path
from typing import Any, Protocol

from sqlalchemy.orm import Session

from app.catalog.plan import EvaluationPlan, PreparationPlan, RegistrationPlan, TrainingPlan
from app.jobs.events import Event
from app.tables import Job
from worker import protocol
from worker.context import WorkerContext
from worker.stops import Limits

AnyPlan = PreparationPlan | RegistrationPlan | TrainingPlan | EvaluationPlan


class Kind(Protocol):
    """A kind of job, as the supervisor sees it."""

    @property
    def uses_standby(self) -> bool:
        """Whether its child needs torch."""
        ...

    @property
    def resumes(self) -> bool:
        """Whether an attempt goes on where the one before was stopped, rather than from the beginning."""
        ...

    def lay_out(self, context: WorkerContext, job: Job, run_dir: Path) -> AnyPlan:
        """Fill the run directory from the database. Raises UnusableJobError for what the client must mend."""
        ...

    def store(self, context: WorkerContext, job: Job, run_dir: Path, result: protocol.Result) -> Any:
        """Put the result's bytes into the blob store, outside any transaction. May be repeated."""
        ...

    def succeed(self, session: Session, job: Job, result: protocol.Result, stored: Any) -> Job | None:
        """Finish the job and publish, in one transaction. None: the lease is lost, and nothing was published."""
        ...

    def ended(self, session: Session, job: Job) -> None:
        """The job failed or was cancelled, in the same transaction."""
        ...

    def limits(self, context: WorkerContext, job: Job) -> Limits:
        """How long the child may take, and be silent."""
        ...

    def success_event(self, job: Job) -> Event:
        """The last event of a job that succeeded."""
        ...


class UnusableJobError(Exception):
    """The job cannot run as it is; `failure` says why."""

    def __init__(self, failure: protocol.Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure
