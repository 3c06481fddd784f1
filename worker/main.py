"""`python -m worker.main [--control]`: a Celery worker that runs jobs until it is told to stop.

Celery starts, supervises and wakes; what runs is decided by leases alone. The first SIGTERM or SIGINT drains: running
jobs write a checkpoint and are released, then the process ends.
"""

import argparse
import ctypes
import functools
import logging
import os
import signal
import socket
import sys
import threading
import uuid
from collections.abc import Callable
from typing import Any

from celery import signals

from app.db import close_engine, make_engine, session_factory, transaction
from app.jobs import leases, workers
from app.queue import CONTROL_QUEUE, TICK, TRAINING_QUEUE, WAKE, Waker, make_celery
from app.settings import Settings, get_settings
from app.storage.database import DatabaseBlobStore
from worker.context import DATABASE_AWAY, WorkerContext
from worker.process import Standby
from worker.supervisor import supervise
from worker.tick import Rounds
from worker.webhooks import WebhookSender

logger = logging.getLogger(__name__)

REPORT_S = 10.0
PR_SET_PDEATHSIG = 1  # linux/prctl.h
CHATTY = ("celery.beat", "celery.worker.strategy", "celery.app.trace")  # three lines a tick, and nothing in them


class Slots:
    """At most `count` jobs at once. A wake-up that finds no free slot is remembered by the slots that are taken."""

    def __init__(self, context: WorkerContext, queue: str, count: int) -> None:
        self._context = context
        self._queue = queue
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

    def _run_all(self) -> None:
        context = self._context
        while not context.draining.is_set():
            with transaction(context.sessions) as session:
                job = leases.claim(session, owner=context.owner, queues=[self._queue], lease=context.lease)
            if job is None:
                return
            supervise(context, job)


def _report_until_stopped(context: WorkerContext, kind: str, stopped: threading.Event) -> None:
    while not stopped.is_set():
        try:
            with transaction(context.sessions) as session:
                workers.report(session, id_=context.owner, kind=kind, host=socket.gethostname(), pid=os.getpid())
        except DATABASE_AWAY as error:
            logger.warning("not reported, database away: %s", str(error).partition("\n")[0])
        stopped.wait(REPORT_S)


def _when_database_is_there(work: Callable[[], None]) -> Callable[[], None]:
    """Drop this message while the database is away; the next tick makes up for it."""

    @functools.wraps(work)
    def tolerant() -> None:
        try:
            work()
        except DATABASE_AWAY as error:
            logger.warning("nothing done, database away: %s", str(error).partition("\n")[0])

    return tolerant


def _end_with_parent(**_: Any) -> None:
    """Beat is a process of its own: without this it would outlive a killed control worker and go on ticking."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


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
    standby = Standby(settings.runs_dir, enabled=settings.standby == "on" and not control)
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
    rounds = Rounds(context)
    webhooks = WebhookSender(context)

    def wake() -> None:
        webhooks.wake()
        taken.run()

    def tick() -> None:
        rounds.tick()
        webhooks.wake()

    celery.task(_when_database_is_there(wake), name=WAKE)
    celery.task(_when_database_is_there(tick), name=TICK)

    def on_ready(**_: Any) -> None:
        if control:
            webhooks.start()
            rounds.scan()
        standby.refill()
        threading.Thread(
            target=_report_until_stopped, args=(context, kind, stopped), name="report", daemon=True
        ).start()
        context.wake(queue)

    def on_shutdown(**_: Any) -> None:
        logger.info("draining: running jobs write a checkpoint and are released")
        draining.set()

    signals.beat_embedded_init.connect(_end_with_parent, weak=False)
    signals.worker_ready.connect(on_ready, weak=False)
    signals.worker_shutting_down.connect(on_shutdown, weak=False)
    arguments = ["worker", "--pool=threads", f"--queues={queue}", f"--hostname={kind}-{uuid.uuid4().hex[:8]}@%h"]
    arguments += [f"--loglevel={settings.log_level.upper()}", "--without-gossip", "--without-mingle"]
    if control:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        # One thread more than slots: a round must not wait for a long preparation.
        arguments += [f"--concurrency={slots + 1}", "--beat", f"--schedule={settings.data_dir / 'beat-schedule'}"]
    else:
        arguments += [f"--concurrency={slots}"]
    try:
        celery.worker_main(arguments)
    finally:
        stopped.set()
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
