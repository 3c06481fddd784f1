"""What a child says, written to the job: events, metrics, resolved hyperparameters, progress."""

import logging
import time
from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session

from app.catalog.tasks import TASKS
from app.db import transaction
from app.jobs import events, leases
from app.jobs.events import Event, MetricPoint
from app.tables import Job
from worker import protocol
from worker.context import DATABASE_AWAY, WorkerContext
from worker.heartbeat import Heartbeat

logger = logging.getLogger(__name__)

FLUSH_S = 0.5
TRAIN_EVENTS = 100  # of a job at most; every number is in its metrics


class Relay:
    """Buffers a child's events and writes them in order, each once, as long as the lease stands."""

    def __init__(self, context: WorkerContext, job: Job, heartbeat: Heartbeat) -> None:
        self._context = context
        self._job = job
        self._heartbeat = heartbeat
        self._events: list[Event] = []
        self._points: list[MetricPoint] = []
        self._hyperparameters: dict[str, Any] | None = None
        self._count = 0
        self._flushed_at = 0.0
        self._total_steps: int | None = None
        self._next_train_event = 0.0
        self._progress: dict[str, Any] = {}
        self._told_metrics = {"loss"}
        if job.kind == "fine_tuning":
            variant = TASKS[job.spec["task"]["type"]].variant(job.spec["task"])
            self._told_metrics |= {variant.selection_metric, *variant.headline}

    def add(self, said: protocol.Event) -> None:
        """Take one event; nothing is written yet."""
        match said:
            case protocol.Log(message, level, data):
                self.tell(Event(message, level, data=data))
            case protocol.Started():
                self._hyperparameters = said.hyperparameters
                self._total_steps = said.total_steps
                where = f", resumed from step {said.resumed_from_step}" if said.resumed_from_step is not None else ""
                self.tell(
                    Event(
                        f"Training started on {said.device}: {said.total_steps} steps{where}",
                        data={"hyperparameters": said.hyperparameters, "total_steps": said.total_steps},
                    )
                )
            case protocol.Metrics(split, step, epoch, values):
                self._points += [MetricPoint(split, name, step, epoch, value) for name, value in values.items()]
                if split != "train" or step >= self._next_train_event:
                    self._next_train_event = step + (self._total_steps or 0) / TRAIN_EVENTS
                    self.tell(Event(self._sentence(said), type="metrics", data=_metrics_data(said)))
            case protocol.Progress():
                self._progress = {
                    "step": said.step,
                    "total_steps": said.total_steps,
                    "epoch": said.epoch,
                    "examples_per_second": said.examples_per_second,
                    "trained_tokens": said.trained_tokens,
                }
                self._heartbeat.show(leases.Progress(self._progress, said.eta_s))
            case protocol.Phase(name, done, total):
                phase = {"name": name, "done": done, "total": total}
                self._heartbeat.show(leases.Progress(self._progress | {"phase": phase}, None))
            case _:
                pass

    def tell(self, event: Event) -> None:
        """Add an event of the supervisor's own, in order with the child's."""
        self._count += 1
        self._events.append(
            # The lease's token and not the attempt's number: a released job runs again under the same number.
            Event(event.message, event.level, event.type, event.data, source=f"{self._job.lease_token}:{self._count}")
        )

    def _sentence(self, said: protocol.Metrics) -> str:
        of = f"/{self._total_steps}" if self._total_steps else ""
        shown = ", ".join(
            f"{said.split} {name}={value:.4g}" for name, value in said.values.items() if name in self._told_metrics
        )
        return f"Step {said.step}{of}: {shown}"

    def flush_if_due(self) -> None:
        """Write what is buffered, at most every FLUSH_S seconds. A database that is away leaves it buffered."""
        if time.monotonic() - self._flushed_at >= FLUSH_S and self._has_news():
            self._flushed_at = time.monotonic()
            try:
                with transaction(self._context.sessions) as session:
                    self._write(session)
            except DATABASE_AWAY as error:
                logger.warning("events kept back, database away: %s", str(error).partition("\n")[0])
                return
            self._forget()

    def flush(self) -> None:
        """Write what is buffered, waiting for the database where it must; drops it once the lease is lost."""
        if self._has_news():
            self._context.persist(self._write, self._heartbeat.lost)
            self._forget()

    def _has_news(self) -> bool:
        return bool(self._events or self._points or self._hyperparameters)

    def _forget(self) -> None:
        self._events, self._points, self._hyperparameters = [], [], None

    def _write(self, session: Session) -> None:
        assert self._job.lease_token is not None
        if leases.hold(session, self._job.lease_token) is None:
            self._heartbeat.lost.set()
            return
        events.append(session, self._job.id, self._events)
        events.record_metrics(session, self._job.id, self._points)
        if self._hyperparameters is not None:
            session.execute(
                update(Job).where(Job.id == self._job.id).values(hyperparameters=self._hyperparameters),
                execution_options={"synchronize_session": False},
            )


def _metrics_data(said: protocol.Metrics) -> dict[str, Any]:
    """OpenAI's names (`train_loss`, `valid_loss`) beside ours."""
    prefix = {"train": "train", "validation": "valid", "test": "test"}[said.split]
    named = {f"{prefix}_{name}": value for name, value in said.values.items()}
    return {"step": said.step, "epoch": said.epoch, "split": said.split, **named}
