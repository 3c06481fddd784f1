"""One leased job from claim to end: lay out, start the child, relay what it says, obey, publish.

The supervisor loads no torch and trusts nothing it cannot fence: every write checks the lease's token.
"""

import logging
import queue
import time
from pathlib import Path

from app.tables import Job
from worker import protocol
from worker.checkpoints import CheckpointPusher
from worker.context import WorkerContext
from worker.ending import Ending
from worker.heartbeat import Heartbeat
from worker.kinds import AnyPlan, Kind, UnusableJobError
from worker.kinds.evaluation import EvaluationKind
from worker.kinds.fine_tuning import FineTuningKind
from worker.kinds.preparation import PreparationKind
from worker.kinds.registration import RegistrationKind
from worker.memory import oom_kills
from worker.outcome import Failed, Outcome, failed_on_disk, judge
from worker.process import Child
from worker.relay import Relay
from worker.run_directories import HeldDirectory
from worker.stops import Signs, Stop

logger = logging.getLogger(__name__)

POLL_S = 0.1
KINDS: dict[str, Kind] = {
    "fine_tuning": FineTuningKind(),
    "preparation": PreparationKind(),
    "registration": RegistrationKind(),
    "evaluation": EvaluationKind(),
}


def supervise(context: WorkerContext, job: Job) -> None:
    """Run a claimed job to the end of this attempt. Never raises for what the job or its child does."""
    assert job.lease_token is not None
    kind = KINDS[job.kind]
    run_dir = HeldDirectory(context.settings.runs_dir / f"{job.id}-{job.attempt}-{job.lease_token}")
    logger.info("job %s attempt %d: started", job.id, job.attempt)
    with Heartbeat(context, job.lease_token) as heartbeat, Relay(context, job, heartbeat) as relay:
        attempt = _Attempt(context, job, kind, run_dir, heartbeat, relay)
        try:
            outcome = attempt.run()
            relay.flush()
            heartbeat.flush()
            Ending(context, job, kind, heartbeat).write(outcome, run_dir.path)
        finally:
            run_dir.remove()
    logger.info("job %s attempt %d: %s", job.id, job.attempt, "lease lost" if heartbeat.lost.is_set() else "ended")


class _Attempt:
    """One attempt at a job: the child, its relay, and what was asked of it."""

    def __init__(
        self, context: WorkerContext, job: Job, kind: Kind, held: HeldDirectory, heartbeat: Heartbeat, relay: Relay
    ) -> None:
        self._context = context
        self._job = job
        self._kind = kind
        self._held = held
        self._run_dir = held.path
        self._heartbeat = heartbeat
        self._relay = relay
        self._result: protocol.Result | None = None
        self._failure: protocol.Failure | None = None

    def run(self) -> Outcome:
        """Lay out the run directory and see the child through."""
        try:
            plan = self._lay_out()
            plan_path = self._run_dir / "plan.json"
            plan_path.write_text(plan.model_dump_json(indent=2), encoding="utf-8")
            return self._see_through(plan_path)
        except UnusableJobError as error:
            return Failed(error.failure)
        except LookupError as error:
            logger.exception("job %s: run directory could not be filled", self._job.id)
            return Failed(protocol.Failure("system_error", "layout_failed", f"The job could not be set up: {error}"))
        except OSError as error:
            logger.exception("job %s: run directory could not be used", self._job.id)
            return failed_on_disk(error, self._run_dir)

    def _see_through(self, plan_path: Path) -> Outcome:
        killed_before = oom_kills()
        child = self._context.standby.take() if self._kind.uses_standby else Child(preload=False)
        pusher = CheckpointPusher(self._context, self._job, self._run_dir, self._heartbeat, self._relay)
        try:
            child.start(plan_path)
            stop, exit_code = self._watch(child, pusher)
            out_of_memory = not child.killed and oom_kills() > killed_before
            return judge(exit_code, self._result, self._failure, child.stderr_tail, stop, out_of_memory=out_of_memory)
        finally:
            child.kill()
            child.wait()
            pusher.close()
            if self._kind.uses_standby:
                self._context.standby.refill()

    def _lay_out(self) -> AnyPlan:
        """Fill the run directory, from the beginning again after a database that was away."""

        def fill() -> AnyPlan:
            self._held.make()
            return self._kind.lay_out(self._context, self._job, self._run_dir)

        plan = self._context.patiently(fill, self._heartbeat.lost)
        if plan is None:
            raise LookupError("the lease was lost before the job was set up")
        return plan

    def _watch(self, child: Child, pusher: CheckpointPusher) -> tuple[Stop | None, int]:
        """Relay until the child's output ends; stop it when it has to, kill it when it does not stop.

        Returns why it was asked to stop, and its exit code.
        """
        signs = Signs(self._context.settings, self._heartbeat, self._kind.limits(self._context, self._job))
        asked: Stop | None = None
        kill_at = float("inf")
        while True:
            # Before the first word too: a worker that drains already lets no short job run to its end.
            signs.draining = self._context.draining.is_set()
            stop = signs.stop()
            if stop is not None and stop != asked:
                if asked is None:
                    if stop.hung:
                        child.dump_stacks()
                    child.stop()
                asked = stop
                kill_at = min(kill_at, time.monotonic() + stop.grace_s)
            if self._heartbeat.lost.is_set() or time.monotonic() > kill_at:
                child.kill()
            try:
                said = child.events.get(timeout=POLL_S)
            except queue.Empty:
                continue
            if said is None:
                return asked, child.wait()
            signs.heard()
            self._take(said, pusher)

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
