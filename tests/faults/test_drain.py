"""A worker that is told to stop gives its jobs back with a checkpoint, whatever it is doing, and spends no attempt."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

from sqlalchemy import select, text

from app.catalog.hyperparameters import Hyperparameters
from app.db import transaction
from app.settings import environment
from app.tables import Checkpoint, Job, JobMetric
from benchmarks.job_history import problems_of
from tests.faults.overheard import overhearing
from tests.faults.servers import Postgres
from tests.worker.conftest import Bench
from worker import protocol
from worker.process import Child
from worker.protocol import Event, Metrics

NOWHERE = "redis://127.0.0.1:1/0"
DRAINED = "Worker is shutting down; the job goes on from its checkpoint on the next free worker"


def ends_as_if_nothing_had_happened(bench: Bench, job_id: str) -> None:
    """The next worker goes on, and the history has neither gap nor double."""
    bench.context.draining.clear()
    job = bench.run_next("training")
    assert job is not None
    assert (job.id, job.status, job.error, job.attempt) == (job_id, "succeeded", None, 1)
    with transaction(bench.context.sessions) as session:
        assert problems_of(session, session.get_one(Job, job_id)) == []


def test_in_the_middle_of_an_evaluation(bench: Bench, prepared: str, rows: str):
    long_file = bench.upload(rows * 2000)  # a second or two to evaluate
    asked = Hyperparameters(n_epochs=3, batch_size=4, eval_interval=3)
    job_id = bench.create(prepared, validation_file=long_file, hyperparameters=asked)
    said: list[Event] = []

    def hear(_: Child, event: Event) -> None:
        said.append(event)
        if isinstance(event, Metrics) and event.step == 3:
            threading.Timer(0.2, bench.context.draining.set).start()

    job = bench.run_next("training", overhearing(bench.context, hear))
    assert job is not None
    assert (job.status, job.attempt) == ("queued", 0)
    assert not [event for event in said if isinstance(event, Metrics) and event.split == "validation"]
    assert bench.messages(job_id)[-1] == DRAINED
    ends_as_if_nothing_had_happened(bench, job_id)


def test_in_the_middle_of_a_checkpoint_on_its_way_into_the_database(bench: Bench, prepared: str):
    asked = Hyperparameters(n_epochs=30, batch_size=4, eval_interval=10)
    job_id = bench.create(prepared, validation_file=prepared, hyperparameters=asked)
    announced: list[int] = []
    underway = threading.Event()

    def hear(_: Child, event: Event) -> None:
        if isinstance(event, protocol.Checkpoint):
            announced.append(event.step)
            underway.set()

    with transaction(bench.context.sessions) as session:
        session.execute(text("LOCK TABLE checkpoints IN EXCLUSIVE MODE"))  # others may read and have to wait to write
        thread = bench.in_thread("training", overhearing(bench.context, hear))
        assert underway.wait(60)
        bench.wait(lambda: waits_for_a_lock(bench))
        bench.context.draining.set()
        bench.wait(lambda: announced[-1] != 10 or not thread.is_alive())  # the one of the stop has come behind it
    thread.join()
    job = bench.job(job_id)
    assert (job.status, job.attempt) == ("queued", 0)
    with transaction(bench.context.sessions) as session:
        steps = session.scalars(select(Checkpoint.step).where(Checkpoint.job_id == job_id)).all()
    assert max(steps) == announced[-1]
    ends_as_if_nothing_had_happened(bench, job_id)


def waits_for_a_lock(bench: Bench) -> bool:
    with transaction(bench.context.sessions) as session:
        query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        return session.execute(text(query)).scalar_one() > 0


# A worker of its own, whose child has to load torch first.
def test_while_a_child_loads_and_redis_is_away(bench: Bench, prepared: str, postgres: Postgres, tmp_path: Path):
    job_id = bench.create(prepared, validation_file=prepared, hyperparameters=Hyperparameters(n_epochs=3, batch_size=4))
    settings = bench.context.settings.model_copy(
        update={
            "database_url": postgres.url,
            "redis_url": NOWHERE,
            "standby": "off",
            "tick_s": 1.0,
            "drain_grace_s": 120,
        }
    )
    log = tmp_path / "worker.log"
    with log.open("wb") as output:
        worker = subprocess.Popen(
            [sys.executable, "-m", "worker.main"], env=environment(settings), stdout=output, stderr=output
        )
    try:
        bench.wait(lambda: bench.job(job_id).status == "running")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(150) == 0, log.read_text()
    finally:
        worker.kill()
    job = bench.job(job_id)
    assert (job.status, job.attempt, job.lease_owner) == ("queued", 0, None)
    assert bench.messages(job_id)[-1] == DRAINED
    with transaction(bench.context.sessions) as session:
        assert session.scalars(select(JobMetric).where(JobMetric.job_id == job_id)).all() == []  # no step was made
    ends_as_if_nothing_had_happened(bench, job_id)
