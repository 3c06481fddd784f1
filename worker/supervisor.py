"""One leased job from claim to end: lay out, start the child, relay what it says, obey, publish.

The supervisor loads no torch and trusts nothing it cannot fence: every write checks the lease's token.
"""

import logging
import queue
import shutil
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.jobs import events, leases
from app.jobs.events import Event
from app.jobs.leases import JobError
from app.tables import Job
from worker import protocol
from worker.checkpoints import CheckpointPusher
from worker.context import WorkerContext
from worker.heartbeat import Heartbeat
from worker.kinds import AnyPlan, Kind, UnusableJobError
from worker.kinds.fine_tuning import FineTuningKind
from worker.kinds.preparation import PreparationKind
from worker.outcome import Failed, Outcome, Stopped, Succeeded, judge
from worker.process import Child
from worker.relay import Relay

logger = logging.getLogger(__name__)

POLL_S = 0.1
RETRY_DELAY = timedelta(seconds=5)  # times the attempt: a broken machine must not eat all attempts at once
KINDS: dict[str, Kind] = {"fine_tuning": FineTuningKind(), "preparation": PreparationKind()}


def supervise(context: WorkerContext, job: Job) -> None:
    """Run a claimed job to the end of this attempt. Never raises for what the job or its child does."""
    assert job.lease_token is not None
    kind = KINDS[job.kind]
    run_dir = context.settings.runs_dir / f"{job.id}-{job.attempt}-{job.lease_token}"
    logger.info("job %s attempt %d: started", job.id, job.attempt)
    with Heartbeat(context, job.lease_token) as heartbeat, Relay(context, job, heartbeat) as relay:
        attempt = _Attempt(context, job, kind, run_dir, heartbeat, relay)
        try:
            attempt.conclude(attempt.run())
        finally:
            shutil.rmtree(run_dir, ignore_errors=True)
    logger.info("job %s attempt %d: %s", job.id, job.attempt, "lease lost" if heartbeat.lost.is_set() else "ended")


class _Attempt:
    """One attempt at a job: the child, its relay, and what was asked of it."""

    def __init__(
        self, context: WorkerContext, job: Job, kind: Kind, run_dir: Path, heartbeat: Heartbeat, relay: Relay
    ) -> None:
        self._context = context
        self._job = job
        self._kind = kind
        self._run_dir = run_dir
        self._heartbeat = heartbeat
        self._relay = relay
        self._result: protocol.Result | None = None
        self._failure: protocol.Failure | None = None

    def run(self) -> Outcome:
        """Lay out the run directory and see the child through."""
        try:
            plan = self._lay_out()
        except UnusableJobError as error:
            return Failed(error.failure)
        except (OSError, LookupError) as error:
            logger.exception("job %s: run directory could not be filled", self._job.id)
            return Failed(protocol.Failure("system_error", "layout_failed", f"The job could not be set up: {error}"))
        plan_path = self._run_dir / "plan.json"
        plan_path.write_text(plan.model_dump_json(indent=2), encoding="utf-8")
        if self._kind.uses_standby:
            child = self._context.standby.take()
        else:
            child = Child(self._run_dir / "stderr.log", preload=False)
        pusher = CheckpointPusher(self._context, self._job, self._run_dir, self._heartbeat, self._relay)
        try:
            child.start(plan_path)
            exit_code = self._watch(child, pusher)
            return judge(exit_code, self._result, self._failure, child.stderr_tail())
        finally:
            child.kill()
            child.wait()
            pusher.close()
            child.stderr.unlink(missing_ok=True)
            if self._kind.uses_standby:
                self._context.standby.refill()

    def _lay_out(self) -> AnyPlan:
        """Fill the run directory, from the beginning again after a database that was away."""

        def fill() -> AnyPlan:
            shutil.rmtree(self._run_dir, ignore_errors=True)
            self._run_dir.mkdir(parents=True)
            return self._kind.lay_out(self._context, self._job, self._run_dir)

        plan = self._context.patiently(fill, self._heartbeat.lost)
        if plan is None:
            raise LookupError("the lease was lost before the job was set up")
        return plan

    def _watch(self, child: Child, pusher: CheckpointPusher) -> int:
        """Relay until the child's output ends; stop it when asked to, kill it when it does not stop."""
        kill_at: float | None = None
        limit_s = self._kind.time_limit_s(self._context)
        time_is_up = time.monotonic() + limit_s if limit_s is not None else None
        while True:
            try:
                said = child.events.get(timeout=POLL_S)
                if said is None:
                    return child.wait()
                self._take(said, pusher)
            except queue.Empty:
                pass
            if self._heartbeat.lost.is_set():
                child.kill()
            elif time_is_up is not None and time.monotonic() > time_is_up:
                self._failure = protocol.Failure(
                    "user_error",
                    "preparation_timeout",
                    f"Reading the file took longer than {limit_s:g} s (TAILOR_PREPARATION_TIMEOUT_S).",
                )
                child.kill()
            elif kill_at is None and (grace_s := self._grace_s()) is not None:
                child.stop()
                kill_at = time.monotonic() + grace_s
            elif kill_at is not None and time.monotonic() > kill_at:
                child.kill()

    def _grace_s(self) -> float | None:
        """How long the child may take to stop, if it has to stop now."""
        if self._heartbeat.cancelled.is_set():
            return self._context.settings.cancel_grace_s
        if self._context.draining.is_set():
            return self._context.settings.drain_grace_s
        return None

    def _take(self, said: protocol.Event, pusher: CheckpointPusher) -> None:
        match said:
            case protocol.Result():
                self._result = said
            case protocol.Failure():
                self._failure = said
            case protocol.Checkpoint():
                pusher.add(said)
            case _:
                self._relay.add(said)

    def conclude(self, outcome: Outcome) -> None:
        """Write how the attempt ended. With the lease lost there is nothing to write."""
        self._relay.flush()
        self._heartbeat.flush()
        if self._heartbeat.cancelled.is_set():
            self._apply(self._cancelled)
            return
        match outcome:
            case Succeeded(result):
                self._succeed(result)
            case Stopped():
                reason = "Worker is shutting down; the job goes on from its checkpoint on the next free worker"
                self._apply(lambda session: leases.release(session, self._token, reason))
            case Failed(failure) if self._context.draining.is_set() and failure.kind == "system_error":
                reason = "Worker shut down before the job could write a checkpoint; it goes on from the last one"
                self._apply(lambda session: leases.release(session, self._token, reason))
            case Failed(failure):
                self._apply(lambda session: self._fail(session, failure))

    @property
    def _token(self) -> uuid.UUID:
        assert self._job.lease_token is not None
        return self._job.lease_token

    def _succeed(self, result: protocol.Result) -> None:
        stored = self._context.patiently(
            lambda: self._kind.store(self._context, self._job, self._run_dir, result), self._heartbeat.lost
        )
        if stored is None:
            return

        def publish(session: Session) -> Job | None:
            finished = self._kind.succeed(session, self._job, result, stored)
            if finished is not None:
                events.append(session, self._job.id, [self._kind.success_event(self._job)])
            return finished

        self._apply(publish)

    def _cancelled(self, session: Session) -> Job | None:
        ended = leases.finish(session, self._token, "cancelled", Event("Job cancelled"))
        if ended is not None:
            self._kind.ended(session, ended)
        return ended

    def _fail(self, session: Session, failure: protocol.Failure) -> Job | None:
        job = self._job
        if failure.kind == "resource_error" and (smaller := _halved(session, job, failure)) is not None:
            event, hyperparameters = smaller
            return leases.retry(
                session, self._token, event, hyperparameters=hyperparameters, memory_retries=Job.memory_retries + 1
            )
        if failure.kind == "system_error" and job.attempt < job.max_attempts:
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
            self._kind.ended(session, ended)
        return ended

    def _apply(self, write: Callable[[Session], Job | None]) -> None:
        done = self._context.persist(write, self._heartbeat.lost)
        if done is None:
            logger.warning("job %s: lease lost, the attempt's outcome is discarded", self._job.id)
        for name in ("training", "control"):
            self._context.wake(name)


def _halved(session: Session, job: Job, failure: protocol.Failure) -> tuple[Event, dict[str, Any]] | None:
    """The one retry that running out of memory gets: half the batch, twice the accumulation, equal updates."""
    held = session.get(Job, job.id, populate_existing=True)
    if failure.code != "out_of_memory" or held is None or held.memory_retries > 0:
        return None
    batch_size = held.hyperparameters.get("batch_size")
    if not isinstance(batch_size, int) or batch_size < 2:
        return None
    half, accumulation = batch_size // 2, held.hyperparameters["gradient_accumulation_steps"] * 2
    event = Event(
        f"Out of memory with batch size {batch_size}; tried again with batch size {half} and "
        f"{accumulation} accumulation steps",
        "warn",
        data={"batch_size": half, "gradient_accumulation_steps": accumulation, **failure.data},
    )
    changed = {"batch_size": half, "gradient_accumulation_steps": accumulation}
    return event, held.hyperparameters | changed
