"""One run, killed twenty times, gives the very result of an uninterrupted one."""

import os
import random
import signal
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.catalog.hyperparameters import Hyperparameters
from app.db import transaction
from app.jobs import service
from app.tables import File, Job, JobMetric, StoredFile
from benchmarks.job_history import problems_of
from tests.faults.overheard import overhearing
from tests.faults.servers import Postgres
from tests.worker.conftest import Bench
from worker.process import Child, Standby
from worker.protocol import Event, Metrics, Started

KILLS = 20
STEPS = 160
ASKED = Hyperparameters(n_epochs=80, batch_size=4, eval_interval=4, learning_rate=2e-3, precision="fp32")
# From the step a moment names to the kill: into the next step, an evaluation, a checkpoint on its way to disk or store.
LATER_S = 0.03


@dataclass
class Killer:
    """Kills the n-th child once it has reached the n-th of these moments of the run, and the last one at the end."""

    moments: list[int]
    random: random.Random
    killed: list[int] = field(default_factory=list)

    def hear(self, child: Child, said: Event) -> None:
        count = len(self.killed)
        if child.pid in self.killed or count > len(self.moments):
            return
        if count == len(self.moments):
            if isinstance(said, Metrics) and said.split == "test":  # with the result's files still to be written
                self._kill(child, 0)
        elif reached(said) >= self.moments[count]:
            self._kill(child, self.random.uniform(0, LATER_S))

    def _kill(self, child: Child, later_s: float) -> None:
        self.killed.append(child.pid)
        threading.Timer(later_s, os.kill, (child.pid, signal.SIGKILL)).start()


def reached(said: Event) -> int:
    """The step at which the run stands, as far as this event says so."""
    if isinstance(said, Started):
        return said.resumed_from_step or 0
    return said.step if isinstance(said, Metrics) and said.split == "train" else -1


def results(session: Session, job: Job) -> dict[str, Any]:
    """All that must not depend on what happened on the way."""
    weights = session.get(StoredFile, (job.fine_tuned_model, "model.safetensors"))
    step_metrics = session.get(File, job.result_files[0])
    assert weights is not None
    assert step_metrics is not None
    numbers = select(JobMetric.split, JobMetric.name, JobMetric.step, JobMetric.epoch, JobMetric.value)
    return {
        "weights": weights.sha256,
        "step metrics": step_metrics.sha256,
        "numbers": sorted(map(tuple, session.execute(numbers.where(JobMetric.job_id == job.id)))),
        "metrics": job.metrics,
        "tokens": job.trained_tokens,
        "hyperparameters": job.hyperparameters,
    }


def remember(bench: Bench, job_id: str) -> dict[str, Any]:
    with transaction(bench.context.sessions) as session:
        job = session.get_one(Job, job_id)
        assert (job.status, job.error) == ("succeeded", None)
        assert problems_of(session, job) == []
        return results(session, job)


# An attempt takes half a second, twenty-two of them: some 15 s.
def test_a_run_killed_at_twenty_random_moments_gives_the_very_result_of_an_uninterrupted_one(
    bench: Bench, prepared: str
):
    draw = random.Random(20)
    killer = Killer(sorted(draw.choices(range(STEPS - 8), k=KILLS - 1)), draw)
    many = bench.context.settings.model_copy(update={"max_attempts": KILLS + 1})
    bench.context = replace(bench.context, settings=many)
    request = {"validation_file": prepared, "test_file": prepared, "seed": 11, "hyperparameters": ASKED}
    whole = bench.create(prepared, **request)
    ordinary = Standby(enabled=False)  # a child like any other: being forked makes no difference either
    bench.run_next("training", replace(bench.context, standby=ordinary))
    killed = bench.create(prepared, **request)
    under_fire = overhearing(bench.context, killer.hear)
    while bench.job(killed).status == "queued":
        with transaction(bench.context.sessions) as session:  # a failed attempt is otherwise tried again later
            session.execute(update(Job).values(run_after=None))
        bench.run_next("training", under_fire)

    assert len(killer.killed) == KILLS
    assert bench.job(killed).attempt == KILLS + 1
    assert remember(bench, killed) == remember(bench, whole)
    steps = [int(message.split("resumed from step ")[1]) for message in bench.messages(killed) if "resumed" in message]
    assert steps == sorted(steps)
    assert len(set(steps)) > KILLS / 2  # it was not killed again and again at one place
    assert list(bench.context.settings.runs_dir.iterdir()) == []


def test_a_paused_job_outlives_its_servers_and_goes_on_elsewhere_to_the_very_result_of_an_uninterrupted_one(
    bench: Bench, prepared: str, postgres: Postgres, tmp_path: Path
):
    request = {"validation_file": prepared, "test_file": prepared, "seed": 12, "hyperparameters": ASKED}
    whole = bench.create(prepared, **request)
    bench.run_next("training")
    paused = bench.create(prepared, **request)

    def pause(_: Child, said: Event) -> None:
        if reached(said) == STEPS // 2 - 1:
            with transaction(bench.context.sessions) as session:
                service.pause(session, bench.caller, paused)

    bench.run_next("training", overhearing(bench.context, pause))
    job = bench.job(paused)
    assert (job.status, job.attempt, job.lease_owner) == ("paused", 0, None)
    assert list(bench.context.settings.runs_dir.iterdir()) == []

    postgres.kill()
    postgres.start()
    settings = bench.context.settings.model_copy(update={"data_dir": tmp_path / "of another machine"})
    elsewhere = replace(bench.context, settings=settings, owner="another-worker")
    assert bench.run_next("training", elsewhere) is None
    with transaction(bench.context.sessions) as session:
        service.resume(session, bench.caller, paused)
    bench.run_next("training", elsewhere)
    assert remember(bench, paused) == remember(bench, whole)
    assert any("resumed from step" in message for message in bench.messages(paused))
