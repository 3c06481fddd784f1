"""`/v1/fine_tuning/jobs`."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from app.api.byte_ranges import Download, content_hash_headers, serve
from app.api.deps import AccessDep
from app.api.event_stream import STREAM_RESPONSES
from app.api.idempotency import OnceDep
from app.api.media_types import preferred
from app.api.opened_streams import LastEventId, open_stream
from app.api.schemas.base import errors
from app.api.schemas.checkpoints import CheckpointList
from app.api.schemas.events import EventList, EventObject
from app.api.schemas.job_objects import JobList, JobObject, MetricObject
from app.api.schemas.jobs import EventsQuery, JobCreate, JobListQuery, PageQuery
from app.jobs import domain_reports, events, service
from app.jobs.domain_reports import Format
from app.queue import CONTROL_QUEUE, TRAINING_QUEUE

HTML, JSON = "text/html", "application/json"
# A report is a page of texts and drawings that come with it: it loads nothing and runs nothing.
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["Fine-tuning"])


@router.post("", responses=errors(409, 413, 422), summary="Create a fine-tuning job")
def create_job(body: JobCreate, access: AccessDep, once: OnceDep) -> JobObject:
    """Queue a job. It waits until its files are prepared, then for a worker."""
    with access.transaction() as (session, caller):

        def act() -> JobObject:
            job = service.create(session, caller, body.to_new_job(), access.state.settings)
            access.wake_after_commit(session, CONTROL_QUEUE, *([TRAINING_QUEUE] if job.status == "queued" else []))
            return JobObject.of(job)

        return once.answer(session, caller, body.model_dump(mode="json"), JobObject, act)


@router.get("", responses=errors(404), summary="List fine-tuning jobs")
def list_jobs(access: AccessDep, query: Annotated[JobListQuery, Query()]) -> JobList:
    """The project's jobs in pages, newest first."""
    with access.read() as (session, caller):
        rows, has_more = service.page(
            session, caller, after=query.after, limit=query.limit, metadata=query.metadata, status=query.status
        )
    return JobList(data=[JobObject.of(job) for job in rows], has_more=has_more)


@router.get("/{job_id}", responses=errors(404), summary="Retrieve a fine-tuning job")
def retrieve_job(job_id: str, access: AccessDep) -> JobObject:
    """A job with its status, progress and results."""
    with access.read() as (session, caller):
        return JobObject.of(service.get(session, caller, job_id))


@router.post("/{job_id}/cancel", responses=errors(404, 409), summary="Cancel a fine-tuning job")
def cancel_job(job_id: str, access: AccessDep) -> JobObject:
    """End a waiting job at once, and a running one at its worker's next sign of life. Asking twice is asking once."""
    with access.transaction() as (session, caller):
        job = service.cancel(session, caller, job_id)
        if job.status == "cancelled":
            access.wake_after_commit(session, CONTROL_QUEUE)  # which sends its webhooks
        return JobObject.of(job)


@router.post("/{job_id}/pause", responses=errors(404, 409), summary="Pause a fine-tuning job")
def pause_job(job_id: str, access: AccessDep) -> JobObject:
    """Take a job from its worker after a checkpoint, or keep it from starting, until it is resumed.

    A paused job holds no worker and no attempt is spent on it. `status` turns to `paused` within seconds; a job whose
    files are still being validated is paused once they are.
    """
    with access.transaction() as (session, caller):
        return JobObject.of(service.pause(session, caller, job_id))


@router.post("/{job_id}/resume", responses=errors(404, 409), summary="Resume a paused fine-tuning job")
def resume_job(job_id: str, access: AccessDep) -> JobObject:
    """Queue a paused job again; any worker goes on exactly where it was. A job that is not paused stays as it is."""
    with access.transaction() as (session, caller):
        job = service.resume(session, caller, job_id)
        access.wake_after_commit(session, TRAINING_QUEUE)
        return JobObject.of(job)


@router.get(
    "/{job_id}/events",
    response_model=EventList,
    responses=errors(404) | STREAM_RESPONSES,
    summary="List a job's events, or stream them",
)
def list_events(
    job_id: str,
    access: AccessDep,
    query: Annotated[EventsQuery, Query()],
    last_event_id: LastEventId = None,
) -> EventList | Response:
    """The job's history in pages, newest first; or, with `stream=true`, server-sent events, oldest first.

    A stream is the whole history, or what lies behind the event that `Last-Event-ID` or `after` names, and then what
    happens, as it happens. `message` and `metrics` events have an `id` and the event object of the list as `data`.
    `progress` events have no id; they come once the history is sent and whenever status, step or estimate change. While
    nothing happens, comments keep the connection open. Behind the last event of a job that has ended comes `done` with
    the data `[DONE]`; `EventSource` should be closed then, and if it connects again it gets 204, which stops it.
    A stream that ends without `done` was cut off: connect again with `Last-Event-ID`; nothing is missed or repeated.
    """
    with access.read() as (session, caller):
        job = service.get(session, caller, job_id)
        if not query.stream:
            rows, has_more = events.page(session, job.id, after=query.after, limit=query.limit)
            return EventList(data=[EventObject.of(event) for event in rows], has_more=has_more)
        return open_stream(access, session, job.id, last_event_id, query.after)


@router.get("/{job_id}/checkpoints", responses=errors(404), summary="List a job's checkpoints")
def list_checkpoints(job_id: str, access: AccessDep, query: Annotated[PageQuery, Query()]) -> CheckpointList:
    """Checkpoints in pages, newest first; each is a model that can be used."""
    with access.read() as (session, caller):
        rows, has_more = service.checkpoints(session, caller, job_id, after=query.after, limit=query.limit)
    return CheckpointList.of(rows, has_more)


@router.get("/{job_id}/metrics", responses=errors(404), summary="List a job's metrics")
def list_metrics(
    job_id: str,
    access: AccessDep,
    name: Annotated[str | None, Query(description="Only this metric, such as `loss`.")] = None,
) -> list[MetricObject]:
    """Every number measured, in the order of steps."""
    with access.read() as (session, caller):
        job = service.get(session, caller, job_id)
        metrics = events.metrics(session, job.id, name)
    return [MetricObject.of(metric) for metric in metrics]


@router.get(
    "/{job_id}/report",
    responses=errors(404, 409, 416)
    | {200: {"content": {JSON: {"schema": {"type": "object"}}, HTML: {"schema": {"type": "string"}}}}},
    response_class=Response,
    summary="Read a job's domain report",
)
@router.head("/{job_id}/report", include_in_schema=False)
def job_report(
    job_id: str,
    request: Request,
    access: AccessDep,
    format: Annotated[  # noqa: A002 (the query parameter's name)
        Format | None, Query(description="`json` or `html`, whatever the `Accept` header says.")
    ] = None,
) -> Response:
    """Whether adaptation helped: how far the domains are apart, before and after, and scores with and without it.

    Made for jobs with `target_files` or with an entry in `adaptation`, when they have succeeded. JSON, or for
    `Accept: text/html` a page with drawings that needs nothing else. Both lie with the model as well, as
    `domain_report.json` and `domain_report.html`.
    """
    accepted = preferred(request.headers.get("accept"), JSON, HTML)
    form: Format = format or ("html" if accepted == HTML else "json")
    with access.read() as (session, caller):
        file = domain_reports.find(session, caller, job_id, form)
    read = partial(access.state.blobs.read, file.blob_id)
    headers = content_hash_headers(file.sha256) | {"vary": "accept"}
    if form == "html":
        headers["content-security-policy"] = PAGE_POLICY
    media_type = HTML if form == "html" else JSON
    name = f"{job_id}-{file.path}"
    return serve(request, Download(name, file.bytes, file.sha256, read, media_type, headers, shown="inline"))
