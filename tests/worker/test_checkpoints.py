"""Checkpoints between run directory and database, and what stages other than the task's leave there."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import select

from app.db import SessionFactory, transaction
from app.jobs import events, leases
from app.settings import Settings
from app.tables import Checkpoint, Job, JobEvent
from tests.jobs.conftest import LEASE, queued_job, starter, upload
from worker import protocol
from worker.checkpoints import CheckpointPusher, restore
from worker.context import WorkerContext
from worker.heartbeat import Heartbeat
from worker.process import Standby
from worker.relay import Relay

__all__ = ["queued_job", "starter", "upload"]


@dataclass
class Attempt:
    """A leased job whose child is played by the test."""

    context: WorkerContext
    job: Job
    run_dir: Path
    heartbeat: Heartbeat
    relay: Relay

    def write(self, step: int, **said: bool) -> protocol.Checkpoint:
        """A checkpoint directory as a child would write it, and what the child says of it."""
        path = f"{protocol.CHECKPOINTS}/{protocol.checkpoint_name(step)}"
        for name in ("model/model.safetensors", "state/state.json"):
            file = self.run_dir / path / name
            file.parent.mkdir(parents=True)
            file.write_text(f"{name} of step {step}")
        files = protocol.listing(self.run_dir / path)
        return protocol.Checkpoint(
            step,
            path,
            f"{path}/model",
            best=said.get("best", False),
            metrics={},
            files=files,
            task="text-classification",
            pinned="pinned" in said,
        )

    def push(self, *checkpoints: protocol.Checkpoint) -> None:
        pusher = CheckpointPusher(self.context, self.job, self.run_dir, self.heartbeat, self.relay)
        for checkpoint in checkpoints:
            pusher.add(checkpoint)
        pusher.close()

    @property
    def stored(self) -> list[int]:
        with transaction(self.context.sessions) as session:
            query = select(Checkpoint.step).where(Checkpoint.job_id == self.job.id).order_by(Checkpoint.step)
            return list(session.scalars(query))


@pytest.fixture
def attempt(settings: Settings, sessions: SessionFactory, blobs, queued_job, tmp_path: Path) -> Iterator[Attempt]:
    settings = settings.model_copy(update={"keep_checkpoints": 1})
    standby = Standby(enabled=False)
    context = WorkerContext(settings, sessions, blobs, "w", threading.Event(), standby, lambda _: None)
    queued_job()
    with transaction(sessions) as session:
        job = leases.claim(session, owner="w", queues=["training"], lease=LEASE)
    with Heartbeat(context, job.lease_token) as heartbeat, Relay(context, job, heartbeat) as relay:
        yield Attempt(context, job, tmp_path / "run", heartbeat, relay)


def test_a_pinned_checkpoint_stays_while_others_come_and_go_and_is_there_for_a_resume(attempt: Attempt, tmp_path: Path):
    for step in (4, 8, 12, 16):
        attempt.push(attempt.write(step, **({"pinned": True} if step == 4 else {"best": step == 8})))

    assert attempt.stored == [4, 8, 16]
    with transaction(attempt.context.sessions) as session:
        pinned = select(Checkpoint.step).where(Checkpoint.job_id == attempt.job.id, Checkpoint.pinned)
        assert list(session.scalars(pinned)) == [4]
    again = tmp_path / "again"
    assert restore(attempt.context, attempt.job, again) == f"{protocol.CHECKPOINTS}/step-00000016"
    weights = again / protocol.CHECKPOINTS / "step-00000004" / "model" / "model.safetensors"
    assert weights.read_text() == "model/model.safetensors of step 4"


@pytest.fixture
def held_up(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Nothing is stored until it is set, so that whatever may be skipped is."""
    said = threading.Event()
    push = CheckpointPusher._push

    def later(self: CheckpointPusher, item) -> None:
        said.wait()
        push(self, item)

    monkeypatch.setattr(CheckpointPusher, "_push", later)
    return said


def test_a_pinned_checkpoint_is_stored_however_slow_the_store_is(attempt: Attempt, held_up: threading.Event):
    pusher = CheckpointPusher(attempt.context, attempt.job, attempt.run_dir, attempt.heartbeat, attempt.relay)
    for step in (2, 4, 6, 8):
        pusher.add(attempt.write(step, **({"pinned": True} if step == 4 else {"best": True})))
    held_up.set()
    pusher.close()

    assert 4 in attempt.stored
    assert 6 not in attempt.stored


def test_a_step_that_is_saved_again_before_it_was_stored_is_stored_as_it_was_saved_last(
    attempt: Attempt, held_up: threading.Event, tmp_path: Path
):
    pusher = CheckpointPusher(attempt.context, attempt.job, attempt.run_dir, attempt.heartbeat, attempt.relay)
    last_of_stage = attempt.write(4, best=True)
    pusher.add(last_of_stage)
    (attempt.run_dir / last_of_stage.path).rename(tmp_path / "replaced")
    end_of_stage = attempt.write(4, pinned=True)
    pusher.add(replace(last_of_stage, files={"state/state.json": 1}))  # told of late: what lies there is the next one
    pusher.add(end_of_stage)
    held_up.set()
    pusher.close()

    with transaction(attempt.context.sessions) as session:
        (stored,) = session.scalars(select(Checkpoint).where(Checkpoint.job_id == attempt.job.id))
        assert (stored.step, stored.pinned, stored.best) == (4, True, False)
        told = select(JobEvent.message).where(JobEvent.job_id == attempt.job.id, JobEvent.level == "warn")
        assert session.scalars(told).all() == []


def test_numbers_of_other_stages_are_told_apart_from_the_tasks_own(attempt: Attempt):
    pretraining = protocol.Metrics("train", 4, 1.0, {"loss": 2.5, "perplexity": 12.2}, "continued_pretraining")
    attempt.relay.add(pretraining)
    attempt.relay.add(protocol.Metrics("train", 4, 0.0, {"loss": 0.7}))
    attempt.relay.add(protocol.Progress(4, 20, 1.0, 9.0, None, 100, "continued_pretraining"))
    attempt.relay.flush()
    attempt.heartbeat.flush()

    with transaction(attempt.context.sessions) as session:
        numbers = {(row.stage, row.name): row.value for row in events.metrics(session, attempt.job.id)}
        told = session.scalars(
            select(JobEvent).where(JobEvent.job_id == attempt.job.id, JobEvent.type == "metrics").order_by(JobEvent.seq)
        ).all()
        job = session.get(Job, attempt.job.id)
    assert numbers == {
        ("continued_pretraining", "loss"): 2.5,
        ("continued_pretraining", "perplexity"): 12.2,
        (None, "loss"): 0.7,
    }
    assert [event.message for event in told] == [
        "Step 4 (continued pretraining): train loss=2.5, train perplexity=12.2",
        "Step 4: train loss=0.7",
    ]
    assert [event.data.get("stage") for event in told] == ["continued_pretraining", None]
    assert "stage" not in told[1].data
    assert job.progress["stage"] == "continued_pretraining"
