"""How an attempt's outcome is written: published, given back, tried again, failed. The lease's token fences it all."""

import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.jobs import events, leases
from app.jobs.events import Event
from app.jobs.leases import JobError
from app.tables import Job
from worker import protocol
from worker.context import WorkerContext
from worker.heartbeat import Heartbeat
from worker.kinds import Kind
from worker.outcome import Failed, Outcome, Stopped, Succeeded, failed_on_disk

logger = logging.getLogger(__name__)

RETRY_DELAY = timedelta(seconds=5)  # times the attempt: a broken machine must not eat all attempts at once
DRAINED = "Worker is shutting down; the job goes on from its checkpoint on the next free worker"
DRAINED_LATE = "Worker shut down before the job could write a checkpoint; it goes on from the last one"
PAUSED_LATE = "The job could not write a checkpoint when it was paused; it goes on from the last one"
DRAINED_ANEW = "Worker is shutting down; the work begins anew on the next free worker"
WITHDRAWN = "The pause was withdrawn after the job had stopped; it goes on from its checkpoint on the next free worker"


@dataclass(frozen=True)
class Ending:
    """Writes the outcome of one attempt."""

    context: WorkerContext
    job: Job
    kind: Kind
    heartbeat: Heartbeat

    def write(self, outcome: Outcome, run_dir: Path) -> None:
        """Write how the attempt ended. With the lease lost there is nothing to write."""
        if self.heartbeat.cancelled.is_set():
            self._apply(self._cancel)
            return
        match outcome:
            case Succeeded(result):
                self._succeed(run_dir, result)
            case Stopped():
                drained = DRAINED if self.kind.resumes else DRAINED_ANEW
                self._give_back(WITHDRAWN if self.heartbeat.paused.is_set() else drained)
            case Failed(failure) if failure.kind == "system_error" and self._was_to_end():
                drained = DRAINED_LATE if self.kind.resumes else DRAINED_ANEW
                self._give_back(PAUSED_LATE if self.heartbeat.paused.is_set() else drained)
            case Failed(failure):
                self._apply(lambda session: self._fail(session, failure))

    def _was_to_end(self) -> bool:
        """Whether the attempt was to end anyhow, so that its end costs the job nothing."""
        return self.context.draining.is_set() or self.heartbeat.paused.is_set()

    @property
    def _token(self) -> uuid.UUID:
        assert self.job.lease_token is not None
        return self.job.lease_token

    def _give_back(self, reason: str) -> None:
        self._apply(lambda session: leases.release(session, self._token, reason))

    def _succeed(self, run_dir: Path, result: protocol.Result) -> None:
        try:
            stored = self.context.patiently(
                lambda: self.kind.store(self.context, self.job, run_dir, result), self.heartbeat.lost
            )
        except OSError as error:
            logger.exception("job %s: result could not be stored", self.job.id)
            failed = failed_on_disk(error, run_dir)
            self._apply(lambda session: self._fail(session, failed.failure))
            return
        if stored is None:
            return

        def publish(session: Session) -> Job | None:
            finished = self.kind.succeed(session, self.job, result, stored)
            if finished is not None:
                events.append(session, self.job.id, [self.kind.success_event(self.job)])
            return finished

        self._apply(publish)

    def _cancel(self, session: Session) -> Job | None:
        ended = leases.finish(session, self._token, "cancelled", Event("Job cancelled"))
        if ended is not None:
            self.kind.ended(session, ended)
        return ended

    def _fail(self, session: Session, failure: protocol.Failure) -> Job | None:
        job = self.job
        if failure.code == "out_of_memory" and (smaller := _smaller_batch(session, job, failure)) is not None:
            event, hyperparameters = smaller
            return leases.retry(
                session, self._token, event, hyperparameters=hyperparameters, memory_retries=Job.memory_retries + 1
            )
        may_pass = failure.kind == "system_error" or failure.code == "disk_full"
        if may_pass and job.attempt < job.max_attempts:
            text = f"Attempt {job.attempt} of {job.max_attempts} failed and is tried again: {failure.message}"
            return leases.retry(
                session, self._token, Event(text, "warn", data=failure.data), delay=RETRY_DELAY * job.attempt
            )
        error = JobError(failure.code, failure.message, failure.param, failure.data)
        ended = leases.finish(
            session,
            self._token,
            "failed",
            Event(f"Job failed: {failure.message}", "error", data=failure.data),
            error=error.to_json(),
        )
        if ended is not None:
            self.kind.ended(session, ended)
        return ended

    def _apply(self, write: Callable[[Session], Job | None]) -> None:
        done = self.context.persist(write, self.heartbeat.lost)
        if done is None:
            logger.warning("job %s: lease lost, the attempt's outcome is discarded", self.job.id)
        for name in ("training", "control"):
            self.context.wake(name)


def _smaller_batch(session: Session, job: Job, failure: protocol.Failure) -> tuple[Event, dict[str, Any]] | None:
    """The one retry that running out of memory gets: half the batch, twice the accumulation, equal updates.

    An odd batch is cut by its smallest factor instead, so that a step goes on seeing the same examples.
    """
    held = session.get(Job, job.id, populate_existing=True)
    if held is None or held.memory_retries > 0:
        return None
    batch_size = held.hyperparameters.get("batch_size")
    if not isinstance(batch_size, int) or batch_size < 2:
        return None
    cut = next(factor for factor in range(2, batch_size + 1) if batch_size % factor == 0)
    smaller, accumulation = batch_size // cut, held.hyperparameters["gradient_accumulation_steps"] * cut
    event = Event(
        f"Out of memory with batch size {batch_size}; tried again with batch size {smaller} and "
        f"{accumulation} accumulation steps, which gives the same updates",
        "warn",
        data={"batch_size": smaller, "gradient_accumulation_steps": accumulation, **failure.data},
    )
    changed = {"batch_size": smaller, "gradient_accumulation_steps": accumulation}
    return event, held.hyperparameters | changed
