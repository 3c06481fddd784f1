"""Sends webhooks from a thread of its own: due deliveries, each outside of any transaction, many at once.

Beside the outbox it needs nothing: a wake-up makes it look at once, and without any it looks when the next delivery
is due. Two senders share the work by leases, and one that is killed loses its deliveries to the others.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from typing import Self, TypeVar

import httpcore2
from anyio import CapacityLimiter, to_thread

from app.db import transaction
from app.errors import AppError
from app.webhooks import deliveries, destinations, signatures
from app.webhooks.deliveries import Claimed, Outcome
from worker.context import DATABASE_AWAY, RETRY_S, WorkerContext
from worker.outgoing import NoAnswer, post

logger = logging.getLogger(__name__)

AT_ONCE = 64
AT_ONCE_PER_ENDPOINT = 4
DATABASE_THREADS = 2
PAUSE_S = 0.05  # between two looks: another sender may be taking what is due
CLOSING_S = 10.0
LEASE = timedelta(seconds=60)  # twice the longest TAILOR_WEBHOOK_TIMEOUT_S, and time to write down what came back
USER_AGENT = f"Tailor/{version('tailor')}"

T = TypeVar("T")


class WebhookSender:
    """Started by control workers. `wake` may be called from any thread; where it was not started, it does nothing."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="webhooks", daemon=True)
        self._started, self._closed, self._given_up = threading.Event(), threading.Event(), threading.Event()
        self._under_way: Counter[str] = Counter()

    def start(self) -> None:
        """Begin to send."""
        self._tls = httpcore2.default_ssl_context()
        self._thread.start()
        self._started.wait()

    def wake(self) -> None:
        """Look for due deliveries now."""
        if self._started.is_set():
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._woken.set)

    def close(self) -> None:
        """Take no more; what is under way ends and is written down, unless the database is away."""
        self._closed.set()
        self.wake()
        if self._started.is_set():
            self._thread.join(self._context.settings.webhook_timeout_s + CLOSING_S)
            self._given_up.set()
            self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._database = CapacityLimiter(DATABASE_THREADS)
        self._started.set()
        async with asyncio.TaskGroup() as under_way:
            while not self._closed.is_set() and not self._context.draining.is_set():
                self._woken.clear()
                claimed, wait_s = await self._claim()
                for delivery in claimed:
                    self._under_way[delivery.endpoint_id] += 1
                    under_way.create_task(self._deliver(delivery))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._woken.wait()

    async def _claim(self) -> tuple[list[Claimed], float]:
        """What to send now, and in how many seconds to look again unless woken."""
        tick_s = self._context.settings.tick_s
        free = AT_ONCE - self._under_way.total()
        if free == 0:
            return [], tick_s  # each delivery that ends wakes the loop
        try:
            claimed, due_in_s = await self._in_thread(partial(self._take, free, set(+self._under_way)))
        except DATABASE_AWAY as error:
            logger.warning("no webhooks sent, database away: %s", str(error).partition("\n")[0])
            return [], RETRY_S
        except Exception:
            logger.exception("webhooks could not be read")
            return [], RETRY_S
        return claimed, tick_s if due_in_s is None else min(max(due_in_s, PAUSE_S), tick_s)

    def _take(self, free: int, busy: set[str]) -> tuple[list[Claimed], float | None]:
        with transaction(self._context.sessions) as session:
            claimed = deliveries.claim(session, limit=free, per_endpoint=AT_ONCE_PER_ENDPOINT, busy=busy, lease=LEASE)
            return claimed, deliveries.next_due_s(session, busy | {delivery.endpoint_id for delivery in claimed})

    async def _deliver(self, delivery: Claimed) -> None:
        try:
            outcome = await self._send(delivery)
            if outcome.error is not None:
                logger.warning("webhook delivery %s, attempt %d: %s", delivery.id, delivery.attempt, outcome.error)
            settle = partial(deliveries.settle, claimed=delivery, outcome=outcome)
            await self._in_thread(partial(self._context.persist, settle, self._given_up))
        except Exception:
            logger.exception("webhook delivery %s failed; it is sent again when its lease ends", delivery.id)
        finally:
            self._under_way[delivery.endpoint_id] -= 1
            self._woken.set()

    async def _send(self, delivery: Claimed) -> Outcome:
        started = time.monotonic()
        deadline = self._loop.time() + self._context.settings.webhook_timeout_s
        private_allowed = self._context.settings.webhook_private_addresses == "on"
        headers = signatures.headers(delivery.event_id, delivery.started_at, delivery.body, delivery.secrets)
        headers |= {"content-type": "application/json", "user-agent": USER_AGENT, "accept-encoding": "identity"}
        status_code, error, text = None, None, None
        try:
            destination = await destinations.resolve(delivery.url, private_allowed=private_allowed)
            answer = await post(destination, headers, delivery.body, self._tls, deadline=deadline)
            status_code, text = answer.status_code, answer.text
            if not 200 <= status_code < 300:
                redirected = (
                    "; redirects are not followed: give the URL they lead to" if status_code // 100 == 3 else ""
                )
                error = f"HTTP {status_code} {answer.reason}".rstrip() + redirected
        except (AppError, NoAnswer) as failure:
            error = str(failure)
        return Outcome(round((time.monotonic() - started) * 1000), status_code, error, text)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await to_thread.run_sync(work, limiter=self._database)
