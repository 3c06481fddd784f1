"""What the API process holds while it serves: connections, the blob store, the waker, the feed of event streams."""

from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import redis
from anyio import CapacityLimiter
from anyio.to_thread import current_default_thread_limiter
from starlette.requests import HTTPConnection

from app.api.event_stream import Page, read_pages
from app.api.feed import Feed
from app.db import SessionFactory, close_engine, make_engine, session_factory
from app.projects import no_longer_valid
from app.queue import Waker, waker
from app.settings import Settings
from app.storage.blobs import BlobStore
from app.storage.database import DatabaseBlobStore

REDIS_TIMEOUT_S = 1.0
ASSEMBLIES = 2  # uploads completed at once: each reads and hashes GiBs, and other requests want threads, too


@dataclass(frozen=True)
class State:
    """One per application, from the start of its lifespan to the end.

    `reading` makes sessions without BEGIN and COMMIT: two of five round trips for a request that only looks something
    up. Each statement sees what is committed, as it would within a transaction (READ COMMITTED).
    """

    settings: Settings
    sessions: SessionFactory
    reading: SessionFactory
    blobs: BlobStore
    waker: Waker
    redis: redis.Redis
    feed: Feed[Page]
    assemblies: CapacityLimiter


@asynccontextmanager
async def serving(settings: Settings) -> AsyncGenerator[State]:
    """The state, closed at the end. Nothing is connected to before it is used.

    As many requests work at once as there are connections, so that none waits for one while it holds a thread.
    """
    database_url = settings.require("database_url")
    engine = make_engine(database_url, settings.database_pool_size)
    redis_url = settings.require("redis_url")
    sessions = session_factory(engine)
    reading = session_factory(engine.execution_options(isolation_level="AUTOCOMMIT"))
    feed = Feed(database_url, partial(read_pages, reading), partial(_void_keys, reading), poll_s=settings.stream_poll_s)
    client = redis.Redis.from_url(
        redis_url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S, retry=None
    )
    current_default_thread_limiter().total_tokens = 2 * settings.database_pool_size  # the pool may overflow by as many
    try:
        yield State(
            settings=settings,
            sessions=sessions,
            reading=reading,
            blobs=DatabaseBlobStore(sessions),
            waker=waker(redis_url, settings),  # pyright: ignore[reportArgumentType] (frozen models are hashable)
            redis=client,
            feed=feed,
            assemblies=CapacityLimiter(ASSEMBLIES),
        )
    finally:
        await feed.stop()
        client.close()
        close_engine(engine)


def _void_keys(sessions: SessionFactory, keys: Collection[str]) -> Collection[str]:
    with sessions() as session:
        return no_longer_valid(session, keys)


def state_of(connection: HTTPConnection) -> State:
    """The state of the application that handles a request."""
    state: State = connection.app.state.serving
    return state
