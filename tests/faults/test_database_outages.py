"""PostgreSQL is killed or hangs under a worker: training goes on, and afterwards everything is there, once."""

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import event, select

from app.catalog.hyperparameters import Hyperparameters
from app.db import transaction
from app.jobs import leases
from app.storage.blobs import CHUNK_BYTES, get_file, put
from app.storage.database import DatabaseBlobStore
from app.tables import Job, JobEvent, JobMetric
from benchmarks.job_history import problems_of
from tests.faults.overheard import overhearing
from tests.faults.servers import Postgres
from tests.worker.conftest import Bench
from worker.context import WorkerContext
from worker.protocol import Checkpoint, Event, Metrics
from worker.tick import Rounds

NEVER = threading.Event()
T = TypeVar("T")


def away(postgres: Postgres, how: str) -> Callable[[], None]:
    """Take the server away; returns what brings it back."""
    if how == "killed":
        postgres.kill()
        return postgres.start
    postgres.freeze()
    return postgres.thaw


# Two outages in the middle of a run; a killed server recovers in one or two.
def test_a_child_goes_on_and_what_it_says_meanwhile_is_stored_in_order_and_once(
    bench: Bench, prepared: str, postgres: Postgres
):
    said: list[Event] = []

    def steps() -> int:
        return max((event.step for event in said if isinstance(event, Metrics) and event.split == "train"), default=0)

    # So many steps that the run outlasts both outages, the seconds in which a killed server recovers included.
    asked = Hyperparameters(n_epochs=1000, batch_size=4, eval_interval=20)
    job_id = bench.create(prepared, validation_file=prepared, test_file=prepared, hyperparameters=asked)
    thread = bench.in_thread("training", overhearing(bench.context, lambda _, word: said.append(word)))
    for outage_at, how in ((20, "killed"), (190, "frozen")):
        bench.wait(lambda step=outage_at: steps() >= step)
        bring_back = away(postgres, how)
        began = steps()
        bench.wait(lambda step=began + 90: steps() >= step)
        bring_back()
    thread.join()

    with transaction(bench.context.sessions) as session:
        job = session.get_one(Job, job_id)
        assert (job.status, job.error, job.attempt) == ("succeeded", None, 1)
        assert problems_of(session, job) == []
        numbers = select(JobMetric.split, JobMetric.name, JobMetric.step, JobMetric.epoch, JobMetric.value)
        stored = {tuple(row) for row in session.execute(numbers.where(JobMetric.job_id == job_id))}
        events = session.scalars(select(JobEvent).where(JobEvent.job_id == job_id).order_by(JobEvent.seq)).all()
    measured = [event for event in said if isinstance(event, Metrics)]
    assert stored == {
        (event.split, name, event.step, event.epoch, value)
        for event in measured
        for name, value in event.values.items()
    }
    told = [(event.data["split"], event.data["step"]) for event in events if event.type == "metrics"]
    evaluations = [(event.split, event.step) for event in measured if event.split != "train"]
    assert [one for one in told if one[0] != "train"] == evaluations
    trained = [step for split, step in told if split == "train"]
    assert trained == sorted(set(trained))
    pushed = [event.data["step"] for event in events if event.message.startswith("Checkpoint created")]
    announced = [event.step for event in said if isinstance(event, Checkpoint)]
    assert set(pushed) <= set(announced)  # those that a newer one overtook meanwhile are left out
    assert pushed == sorted(set(pushed))
    assert pushed[-1] == announced[-1]


def test_bytes_on_their_way_in_or_out_are_sent_again(context: WorkerContext, postgres: Postgres, tmp_path: Path):
    data = os.urandom(20 * CHUNK_BYTES)
    wanted, gone = threading.Event(), threading.Event()

    def lose_the_server(*_: object) -> None:
        """A connection was found to be well and is about to be used."""
        if wanted.is_set() and not gone.is_set():
            postgres.kill()
            gone.set()

    def pieces() -> Iterator[bytes]:
        for number in range(20):
            if number == 12:
                wanted.set()
            yield data[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES]

    class Watched(DatabaseBlobStore):
        def read(self, *arguments) -> Iterator[bytes]:
            for number, piece in enumerate(super().read(*arguments)):
                if number == 6:
                    wanted.set()
                yield piece

    def brought_back(work: Callable[[], T]) -> T:
        """What `work` comes to when the server is lost in the middle of it."""
        wanted.clear()
        gone.clear()
        with ThreadPoolExecutor() as executor:
            result = executor.submit(context.patiently, work, NEVER)
            assert gone.wait(60)
            postgres.start()
            return result.result()

    event.listen(context.sessions.kw["bind"], "checkout", lose_the_server)
    stored = brought_back(lambda: put(context.blobs, pieces()))
    assert stored.sha256 == hashlib.sha256(data).hexdigest()
    brought_back(lambda: get_file(Watched(context.sessions), stored.id, tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == data


# Waits out three renewal intervals.
@pytest.mark.parametrize(("how", "renew_s"), [("killed", 1.5), ("frozen", 0.5)])
def test_a_lease_that_ran_out_while_the_database_was_away_is_not_taken_for_a_lost_worker_at_once(
    bench: Bench, prepared: str, postgres: Postgres, how: str, renew_s: float
):
    settings = bench.context.settings.model_copy(update={"renew_s": renew_s, "tick_s": 0.2})
    rounds = Rounds(replace(bench.context, settings=settings))
    job_id = bench.create(prepared)
    bench.wait(lambda: rounds.tick() or bench.job(job_id).status == "queued")
    with transaction(bench.context.sessions) as session:
        lease = timedelta(milliseconds=300)
        claimed = leases.claim(session, owner="gone", queues=["training"], lease=lease)
    assert claimed is not None
    bring_back = away(postgres, how)
    threading.Event().wait(0.5)  # the outage itself: longer than the lease and than two rounds
    bring_back()

    rounds.tick()
    assert bench.job(job_id).status == "running"
    bench.wait(lambda: rounds.tick() or bench.job(job_id).status == "queued")
    assert bench.job(job_id).attempt == 1
