"""How an endpoint answers who asks for a job's events as a stream: from where on, or that nothing will follow."""

from typing import Annotated

from fastapi import Header
from sqlalchemy.orm import Session
from starlette.responses import Response

from app.api.deps import Access
from app.api.event_stream import EventStream
from app.jobs import news

LastEventId = Annotated[
    str | None,
    Header(alias="Last-Event-ID", description="Of a stream that goes on: the last id received. Beats `after`."),
]


def open_stream(
    access: Access, session: Session, job_id: str, last_event_id: str | None, after: str | None
) -> Response:
    """The stream behind the event named, or from the beginning; 204 behind the last event of a job that has ended.

    Raises AppError 404 for an event that the job does not have.
    """
    param, event_id = ("Last-Event-ID", last_event_id) if last_event_id else ("after", after)
    position = news.locate(session, job_id, event_id, param=param)
    if event_id is not None and news.read(session, [position], limit=1)[position].is_the_last:
        return Response(status_code=204)
    state = access.state
    return EventStream(state.feed, position, access.key, state.settings.stream_heartbeat_s)
