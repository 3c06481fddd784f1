"""Celery: the app object, and `wake`, which carries no work and may be lost (FACTS: the row is the outbox)."""

import logging
import threading
from functools import cache

from celery import Celery

from app.settings import Settings

logger = logging.getLogger(__name__)

WAKE = "tailor.wake"
WAKE_EXPIRES_S = 60
TRAINING_QUEUE = "training"
CONTROL_QUEUE = "control"


def make_celery(redis_url: str, settings: Settings) -> Celery:
    """The Celery application of workers and producers. Reasons for each setting: DESIGN section 7."""
    celery = Celery("tailor", broker=redis_url)
    celery.conf.update(
        task_ignore_result=True,
        task_acks_late=False,
        task_serializer="json",
        accept_content=["json"],
        task_default_queue=TRAINING_QUEUE,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_pool="threads",
        worker_hijack_root_logger=False,
        worker_enable_remote_control=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "socket_keepalive": True,
            "health_check_interval": 10,
            "socket_connect_timeout": 5,
            "max_retries": 0,
        },
    )
    return celery


class Waker:
    """Sends wake-ups from a thread of its own, so that a dead Redis neither fails nor slows the caller."""

    def __init__(self, celery: Celery) -> None:
        self._celery = celery
        self._wanted: set[str] = set()
        self._failing = False
        self._condition = threading.Condition()
        threading.Thread(target=self._send_forever, name="waker", daemon=True).start()

    def wake(self, queue: str) -> None:
        """Ask for a wake-up of a queue; several asked for at once become one."""
        with self._condition:
            self._wanted.add(queue)
            self._condition.notify()

    def _send_forever(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._wanted)
                queues, self._wanted = self._wanted, set()
            for queue in queues:
                self._send(queue)

    def _send(self, queue: str) -> None:
        """Try once. An outage is told when it begins and when it is over: in between, each request would repeat it."""
        try:
            self._celery.send_task(WAKE, queue=queue, retry=False, expires=WAKE_EXPIRES_S)
        except Exception as error:
            if not self._failing:
                logger.warning("wake-ups are not sent: %s; workers look for work by themselves meanwhile", error)
            self._failing = True
        else:
            if self._failing:
                logger.warning("wake-ups are sent again")
            self._failing = False


@cache
def waker(redis_url: str, settings: Settings) -> Waker:
    """The process's one waker for a broker."""
    return Waker(make_celery(redis_url, settings))
