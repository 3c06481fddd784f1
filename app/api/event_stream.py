"""A job's events as server-sent events: history, then what happens, until the job has ended.

`message` and `metrics` events carry the id that `Last-Event-ID` takes up again; `progress` has none, so that it moves
nobody's place. `done` with `[DONE]` is how OpenAI ends a stream, and where the `openai` SDK stops reading.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from fastapi.sse import EventSourceResponse, format_sse_event
from starlette.types import Send

from app.api.feed import Feed
from app.api.schemas.base import ResponseModel
from app.api.schemas.events import EvaluationEvent, EventObject
from app.api.schemas.progress import EvaluationProgress, ProgressObject
from app.db import SessionFactory
from app.jobs import news
from app.jobs.news import News, Position
from app.tables import Job, JobEvent

EVENTS_AT_ONCE = 200
PAGE_BYTES = 256 * 1024  # about what a client that does not read costs
DONE = format_sse_event(event="done", data_str="[DONE]")
# One line and no empty one behind it: httpx-sse and the openai SDK take that for an event without data.
HEARTBEAT = b": ping\n"
HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}  # nginx would hold events back
EXAMPLE = """event: message
data: {"id":"ftevent-7d8e9fa0b1c2d3e4f5061728394a5b","object":"fine_tuning.job.event","created_at":1767225601,...}
id: ftevent-7d8e9fa0b1c2d3e4f5061728394a5b

event: progress
data: {"object":"fine_tuning.job.progress","status":"running","attempt":1,"step":40,"total_steps":96,...}

event: done
data: [DONE]

"""
STREAM_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A page; with `stream=true` the stream.",
        "content": {"text/event-stream": {"schema": {"type": "string"}, "example": EXAMPLE}},
    },
    204: {"description": "Nothing will follow: the job has ended, and the event named is its last."},
}


@dataclass(frozen=True)
class Page:
    """What one read comes to, as it goes over the wire: encoded once for all who wait for it."""

    events: bytes
    end: Position
    has_more: bool
    progress: bytes
    is_the_last: bool

    @classmethod
    def of(cls, position: Position, found: News) -> "Page":
        """The page of the news at a position."""
        blocks: list[bytes] = []
        size = 0
        for event in found.events:
            if size >= PAGE_BYTES:
                break
            blocks.append(
                format_sse_event(id=event.id, event=event.type, data_str=_text(event_object(found.job, event)))
            )
            size += len(blocks[-1])
        has_more = found.has_more or len(blocks) < len(found.events)
        return cls(
            events=b"".join(blocks),
            end=Position(position.job_id, found.events[len(blocks) - 1].seq) if blocks else position,
            has_more=has_more,
            progress=format_sse_event(event="progress", data_str=_text(progress_object(found.job))),
            is_the_last=found.is_the_last and not has_more,
        )


def event_object(job: Job, event: JobEvent) -> EventObject | EvaluationEvent:
    """An event in the form of its job's kind."""
    return (EvaluationEvent if job.kind == "evaluation" else EventObject).of(event)


def progress_object(job: Job) -> ProgressObject | EvaluationProgress:
    """Where a job stands in the form of its kind."""
    return (EvaluationProgress if job.kind == "evaluation" else ProgressObject).of(job)


def _text(object_: ResponseModel) -> str:
    """JSON in ASCII: many a client takes U+2028 or U+0085 for the end of a line."""
    return json.dumps(object_.model_dump(mode="json"), separators=(",", ":"))


def read_pages(sessions: SessionFactory, positions: Sequence[Position]) -> Mapping[Position, Page]:
    """The pages at these positions, for `Feed`."""
    with sessions() as session:
        found = news.read(session, positions, limit=EVENTS_AT_ONCE)
        return {position: Page.of(position, item) for position, item in found.items()}


class EventStream(EventSourceResponse):
    """Streams a job from a position on, as somebody with this API key."""

    def __init__(self, feed: Feed[Page], position: Position, key: str, heartbeat_s: float) -> None:
        self._chunks = _chunks(feed, position, key, heartbeat_s)
        super().__init__(self._chunks, headers=HEADERS)

    async def stream_response(self, send: Send) -> None:
        """Send it all. A client that goes away in the middle of a chunk leaves nothing open behind it."""
        async with aclosing(self._chunks):
            await super().stream_response(send)


async def _chunks(feed: Feed[Page], position: Position, key: str, heartbeat_s: float) -> AsyncGenerator[bytes]:
    told = b""
    with feed.watch(position.job_id, key) as watch:
        while watch.is_valid:
            watch.expect()
            answer = feed.ask(position)
            while not await _is_done(answer, heartbeat_s):
                yield HEARTBEAT
            page = answer.result()
            if page is None:
                return
            position = page.end
            if page.events:
                yield page.events
            if page.has_more:
                continue
            if page.progress != told:
                told = page.progress
                yield page.progress
            if page.is_the_last:
                yield DONE
                return
            while not await _is_done(watch.news, heartbeat_s):
                yield HEARTBEAT


async def _is_done(future: "asyncio.Future[Page | None] | asyncio.Future[None]", timeout_s: float) -> bool:
    done, _ = await asyncio.wait([future], timeout=timeout_s)
    return bool(done)
