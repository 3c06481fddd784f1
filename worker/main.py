"""`python -m worker.main [--control]`: a Celery worker that runs jobs until it is told to stop.

Celery starts, supervises and wakes; what runs is decided by leases alone. A wake-up saves waiting: every worker also
looks for work by itself, and the control worker's rounds need no message, so that a Redis that is away costs seconds.
The first SIGTERM or SIGINT drains: running jobs write a checkpoint and are released, then the process ends.
"""

import argparse
import functools
import logging
import os
import socket
import threading
import uuid
from collections.abc import Callable
from typing import Any

from celery import signals

from app.db import close_engine, make_engine, session_factory, transaction
from app.jobs import leases, workers
from app.queue import CONTROL_QUEUE, TRAINING_QUEUE, WAKE, Waker, make_celery
from app.settings import Settings, get_settings
from app.storage.database import DatabaseBlobStore
from worker.cleaning import Cleaning
from worker.context import DATABASE_AWAY, WorkerContext
from worker.process import Standby
from worker.run_directories import sweep
from worker.supervisor import supervise
from worker.tick import Rounds
from worker.webhooks import WebhookSender

logger = logging.getLogger(__name__)

REPORT_S = 10.0
SWEEP_S = 300.0
CHATTY = ("celery.worker.strategy", "celery.app.trace")  # two lines a wake-up, and nothing in them


class Slots:
    """At most `count` jobs at once. A wake-up that finds no free slot is remembered by the slots that are taken."""

    def __init__(self, context: WorkerContext, queue: str, count: int) -> None:
        self._context = context
        self._queue = queue
        self._count = count
        self._free = threading.BoundedSemaphore(count)
        self._woken = threading.Event()

    def run(self) -> None:
        """Claim and supervise until nothing waits."""
        self._woken.set()
        while self._woken.is_set() and not self._context.draining.is_set() and self._free.acquire(blocking=False):
            self._woken.clear()
            try:
                self._run_all()
            finally:
                self._free.release()

    def wait_until_free(self) -> None:
        """Return once every running job has ended; for a worker that drains and starts none."""
        for _ in range(self._count):
            self._free.acquire()

    def _run_all(self) -> None:
        context = self._context
        while not context.draining.is_set():
            with transaction(context.sessions) as session:
                job = leases.claim(session, owner=context.owner, queues=[self._queue], lease=context.lease)
            if job is None:
                return
            supervise(context, job)


def _report(context: WorkerContext, kind: str) -> None:
    with transaction(context.sessions) as session:
        workers.report(session, id_=context.owner, kind=kind, host=socket.gethostname(), pid=os.getpid())


def _sweep(settings: Settings) -> None:
    for name in sweep(settings.runs_dir):
        logger.info("removed %s, which a worker that is gone had left", settings.runs_dir / name)


def _when_database_is_there(work: Callable[[], None]) -> Callable[[], None]:
    """Leave it undone while the database is away, and log what else goes wrong: the next time makes up for it."""

    def tolerant() -> None:
        try:
            work()
        except DATABASE_AWAY as error:
            logger.warning("nothing done, database away: %s", str(error).partition("\n")[0])
        except Exception:
            logger.exception("left undone")

    return tolerant


def _in_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, daemon=True).start()


def _every(interval_s: float, work: Callable[[], None], stopped: threading.Event) -> None:
    """Do `work` now and at every interval until stopped, in a thread of its own."""

    def repeat() -> None:
        work()
        while not stopped.wait(interval_s):
            work()

    _in_thread(repeat)


def run(settings: Settings, *, control: bool) -> None:
    """Run a worker in the foreground until it has drained."""
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    kind = "control" if control else "training"
    queue, slots = (CONTROL_QUEUE, settings.preparation_slots) if control else (TRAINING_QUEUE, settings.worker_slots)
    celery = make_celery(settings.require("redis_url"), settings)
    engine = make_engine(settings.require("database_url"), settings.database_pool_size)
    sessions = session_factory(engine)
    draining, stopped = threading.Event(), threading.Event()
    standby = Standby(enabled=settings.standby == "on" and not control)
    context = WorkerContext(
        settings=settings,
        sessions=sessions,
        blobs=DatabaseBlobStore(sessions),
        owner=f"{kind}@{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}",
        draining=draining,
        standby=standby,
        wake=Waker(celery).wake,
    )
    taken = Slots(context, queue, slots)
    webhooks = WebhookSender(context)

    def wake() -> None:
        webhooks.wake()
        taken.run()

    look_for_work = _when_database_is_there(wake)
    celery.task(look_for_work, name=WAKE)

    def on_setup(**_: Any) -> None:
        """Go to work, whether Redis is there or not: Celery takes signals from now on, and connects afterwards."""
        if control:
            webhooks.start()
            rounds = Rounds(context)
            tick = _when_database_is_there(rounds.tick)
            tick()  # before the first report: who reads that finds the base models registered
            _every(settings.tick_s, tick, stopped)
            cleaning = Cleaning(context, rounds.is_settled)
            _every(settings.tick_s, _when_database_is_there(cleaning.clean_if_due), stopped)
        standby.refill()
        _every(SWEEP_S, _when_database_is_there(lambda: _sweep(settings)), stopped)
        _every(REPORT_S, _when_database_is_there(functools.partial(_report, context, kind)), stopped)
        _every(settings.tick_s, lambda: _in_thread(look_for_work), stopped)

    def on_shutdown(**_: Any) -> None:
        logger.info("draining: running jobs write a checkpoint and are released")
        draining.set()

    signals.celeryd_after_setup.connect(on_setup, weak=False)
    signals.worker_shutting_down.connect(on_shutdown, weak=False)
    arguments = ["worker", "--pool=threads", f"--queues={queue}", f"--hostname={kind}-{uuid.uuid4().hex[:8]}@%h"]
    arguments += [f"--loglevel={settings.log_level.upper()}", "--without-gossip", "--without-mingle"]
    arguments.append(f"--concurrency={slots}")
    try:
        celery.worker_main(arguments)
    finally:
        stopped.set()
        draining.set()
        taken.wait_until_free()  # of jobs that no message brought, Celery knows nothing
        standby.close()
        webhooks.close()
        try:
            with transaction(sessions) as session:
                workers.leave(session, context.owner)
        except DATABASE_AWAY:
            logger.warning("could not sign off, database away")
        close_engine(engine)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="worker.main", description=__doc__)
    parser.add_argument("--control", action="store_true", help="prepare files and keep house instead of training")
    run(get_settings(), control=parser.parse_args().control)


if __name__ == "__main__":
    main()
