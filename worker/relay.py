"""What a child says, written to the job: events, metrics, resolved hyperparameters, progress."""

import threading
import time
from dataclasses import dataclass
from typing import Any, Self

from sqlalchemy import update
from sqlalchemy.orm import Session

from app.catalog.tasks import TASKS
from app.jobs import events, leases
from app.jobs.events import Event, MetricPoint
from app.tables import Job
from worker import protocol
from worker.context import WorkerContext
from worker.heartbeat import Heartbeat

WRITE_EVERY_S = 0.5
# PostgreSQL takes 65,535 parameters a statement, and a row has seven: an outage may leave more to write than that.
ITEMS_PER_WRITE = 1000
TRAIN_EVENTS = 100  # of a job at most; every number is in its metrics


@dataclass(frozen=True)
class _Resolved:
    """Hyperparameters with no `auto` left."""

    hyperparameters: dict[str, Any]


_Item = Event | MetricPoint | _Resolved


class Relay:
    """Writes a child's events from a thread of its own: in order, each once, as long as the lease stands.

    Who adds is never held up: a database that is away, or hangs, gets everything when it is back.
    """

    def __init__(self, context: WorkerContext, job: Job, heartbeat: Heartbeat) -> None:
        self._context = context
        self._job = job
        self._heartbeat = heartbeat
        self._events = 0
        self._total_steps: int | None = None
        self._next_train_event = 0.0
        self._progress: dict[str, Any] = {}
        self._told_metrics = {"loss"}
        if job.kind == "fine_tuning":
            variant = TASKS[job.spec["task"]["type"]].variant(job.spec["task"])
            self._told_metrics |= {variant.selection_metric, *variant.headline}
        self._waiting: list[_Item] = []
        self._written = 0
        self._hurried = False
        self._closed = False
        self._error: Exception | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._write_all, name="relay", daemon=True)

    def add(self, said: protocol.Event) -> None:
        """Take one event; it is written soon."""
        match said:
            case protocol.Log(message, level, data):
                self.tell(Event(message, level, data=data))
            case protocol.Started():
                self._put(_Resolved(said.hyperparameters))
                self._total_steps = said.total_steps
                where = f", resumed from step {said.resumed_from_step}" if said.resumed_from_step is not None else ""
                self.tell(
                    Event(
                        f"Training started on {said.device}: {said.total_steps} steps{where}",
                        data={"hyperparameters": said.hyperparameters, "total_steps": said.total_steps},
                    )
                )
            case protocol.Metrics(split, step, epoch, values, stage):
                self._put(*(MetricPoint(split, name, step, epoch, value, stage) for name, value in values.items()))
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
                    **_stage(said),
                }
                self._heartbeat.show(leases.Progress(self._progress, said.eta_s))
            case protocol.Phase(name, done, total) if self._job.kind == "evaluation":
                self._heartbeat.show(leases.Progress({"name": name, "done": done, "total": total}, said.eta_s))
            case protocol.Phase(name, done, total):
                phase = {"name": name, "done": done, "total": total}
                self._heartbeat.show(leases.Progress(self._progress | {"phase": phase}, None))
            case _:
                pass

    def tell(self, event: Event) -> None:
        """Add an event of the supervisor's own, in order with the child's."""
        with self._changed:
            self._events += 1
            # The lease's token and not the attempt's number: a released job runs again under the same number.
            source = f"{self._job.lease_token}:{self._events}"
            self._put(Event(event.message, event.level, event.type, event.data, source))

    def _sentence(self, said: protocol.Metrics) -> str:
        of = f"/{self._total_steps}" if self._total_steps else ""
        told = self._told_metrics | ({"perplexity"} if said.stage == "continued_pretraining" else set())
        shown = ", ".join(f"{said.split} {name}={value:.4g}" for name, value in said.values.items() if name in told)
        stage = f" ({said.stage.replace('_', ' ')})" if said.stage else ""
        return f"Step {said.step}{of}{stage}: {shown}"

    @property
    def added(self) -> int:
        """How many things were added so far."""
        with self._changed:
            return self._written + len(self._waiting)

    def wait_until_written(self, count: int) -> None:
        """Return once the first `count` things added are in the database, or the lease is lost."""
        with self._changed:
            self._hurried = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._written >= count or self._error)
            if self._error is not None:
                raise self._error

    def flush(self) -> None:
        """Return once everything is written, or the lease is lost."""
        self.wait_until_written(self.added)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _put(self, *items: _Item) -> None:
        with self._changed:
            self._waiting += items
            self._changed.notify_all()

    def _write_all(self) -> None:
        written_at = 0.0
        while batch := self._next_batch(written_at + WRITE_EVERY_S):
            try:
                self._context.persist(lambda session, batch=batch: self._write(session, batch), self._heartbeat.lost)
            except Exception as error:
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
                raise
            written_at = time.monotonic()
            with self._changed:
                del self._waiting[: len(batch)]
                self._written += len(batch)
                self._hurried = self._hurried and bool(self._waiting)
                self._changed.notify_all()

    def _next_batch(self, not_before: float) -> list[_Item]:
        """What to write next; empty once there is nothing left and nothing will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            patience_s = max(0.0, not_before - time.monotonic())
            self._changed.wait_for(lambda: self._hurried or self._closed, patience_s)
            return self._waiting[:ITEMS_PER_WRITE]

    def _write(self, session: Session, batch: list[_Item]) -> None:
        assert self._job.lease_token is not None
        if leases.hold(session, self._job.lease_token) is None:
            self._heartbeat.lost.set()
            return
        events.append(session, self._job.id, [item for item in batch if isinstance(item, Event)])
        events.record_metrics(session, self._job.id, [item for item in batch if isinstance(item, MetricPoint)])
        for item in batch:
            if isinstance(item, _Resolved):
                session.execute(
                    update(Job).where(Job.id == self._job.id).values(hyperparameters=item.hyperparameters),
                    execution_options={"synchronize_session": False},
                )


def _metrics_data(said: protocol.Metrics) -> dict[str, Any]:
    """OpenAI's names (`train_loss`, `valid_loss`) beside ours."""
    prefix = {"train": "train", "validation": "valid", "test": "test"}[said.split]
    named = {f"{prefix}_{name}": value for name, value in said.values.items()}
    return {"step": said.step, "epoch": said.epoch, "split": said.split, **_stage(said), **named}


def _stage(said: protocol.Metrics | protocol.Progress) -> dict[str, Any]:
    return {} if said.stage is None else {"stage": said.stage}
