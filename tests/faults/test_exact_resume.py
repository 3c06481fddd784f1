"""One run, killed twenty times, gives the very result of an uninterrupted one."""

import os
import random
import signal
import threading
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.catalog.hyperparameters import Hyperparameters
from app.db import transaction
from app.tables import File, Job, JobMetric, StoredFile
from benchmarks.job_history import problems_of
from tests.faults.forked import forking
from tests.faults.overheard import overhearing
from tests.worker.conftest import Bench
from worker.process import Child
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
    bench.run_next("training")
    killed = bench.create(prepared, **request)
    with forking() as standby:
        under_fire = overhearing(replace(bench.context, standby=standby), killer.hear)
        while bench.job(killed).status == "queued":
            with transaction(bench.context.sessions) as session:  # a failed attempt is otherwise tried again later
                session.execute(update(Job).values(run_after=None))
            bench.run_next("training", under_fire)

    assert len(killer.killed) == KILLS
    with transaction(bench.context.sessions) as session:
        jobs = [session.get_one(Job, job_id) for job_id in (whole, killed)]
        assert [(job.status, job.error, job.attempt) for job in jobs] == [
            ("succeeded", None, 1),
            ("succeeded", None, KILLS + 1),
        ]
        assert [problem for job in jobs for problem in problems_of(session, job)] == []
        uninterrupted, resumed = (results(session, job) for job in jobs)
    assert resumed == uninterrupted
    assert len(resumed["numbers"]) > STEPS
    steps = [int(message.split("resumed from step ")[1]) for message in bench.messages(killed) if "resumed" in message]
    assert steps == sorted(steps)
    assert len(set(steps)) > KILLS / 2  # it was not killed again and again at one place
    assert list(bench.context.settings.runs_dir.iterdir()) == []
