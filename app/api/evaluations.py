"""`/v1/evaluations`."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from app.api.deps import AccessDep
from app.api.event_stream import STREAM_RESPONSES
from app.api.idempotency import OnceDep
from app.api.opened_streams import LastEventId, open_stream
from app.api.schemas.base import errors
from app.api.schemas.comparisons import ComparisonObject, ComparisonQuery
from app.api.schemas.evaluations import (
    EvaluationCreate,
    EvaluationList,
    EvaluationListQuery,
    EvaluationObject,
)
from app.api.schemas.events import EvaluationEvent, EvaluationEventList
from app.api.schemas.jobs import EventsQuery
from app.jobs import comparisons, evaluations, events
from app.queue import CONTROL_QUEUE, TRAINING_QUEUE

router = APIRouter(prefix="/v1/evaluations", tags=["Evaluations"])


@router.post("", responses=errors(409, 413, 422), summary="Evaluate a model on a file")
def create_evaluation(body: EvaluationCreate, access: AccessDep, once: OnceDep) -> EvaluationObject:
    """Score any model on any file of its task. It waits until the file is prepared, then for a worker.

    The model is asked as in training: with its window, its precision and the thresholds that were tuned then. A file
    with labels that the model does not know is an error that names them.
    """
    with access.transaction() as (session, caller):

        def act() -> EvaluationObject:
            new = body.to_new_evaluation()
            job = evaluations.create(session, caller, new, access.state.settings)
            access.wake_after_commit(session, CONTROL_QUEUE, *([TRAINING_QUEUE] if job.status == "queued" else []))
            return EvaluationObject.of(job)

        return once.answer(session, caller, body.model_dump(mode="json"), EvaluationObject, act)


@router.get("", responses=errors(404), summary="List evaluations")
def list_evaluations(access: AccessDep, query: Annotated[EvaluationListQuery, Query()]) -> EvaluationList:
    """The project's evaluations in pages, newest first."""
    with access.read() as (session, caller):
        rows, has_more = evaluations.page(
            session,
            caller,
            after=query.after,
            limit=query.limit,
            model=query.model,
            file=query.file,
            status=query.status,
            metadata=query.metadata,
        )
    return EvaluationList(data=[EvaluationObject.of(job) for job in rows], has_more=has_more)


@router.get("/compare", responses=errors(404, 409), summary="Compare two evaluations")
def compare_evaluations(access: AccessDep, query: Annotated[ComparisonQuery, Query()]) -> ComparisonObject:
    """Whether two models really differ on the same file: paired tests over its rows, and a sentence that says it.

    `p_value` is that of approximate randomization (Noreen 1989), `interval` the 95 % paired bootstrap interval of the
    difference `b - a` (Koehn 2004); where rows are right or wrong, `mcnemar` is McNemar's exact test. The same seed
    gives the same numbers. 409 for evaluations that have not succeeded; 400 for those of different files or tasks.
    """
    with access.read() as (session, caller):
        pair = comparisons.load(session, caller, query.a, query.b, query.metric)
    return ComparisonObject.of(comparisons.compare(pair, access.state.blobs, query.seed))


@router.get("/{evaluation_id}", responses=errors(404), summary="Retrieve an evaluation")
def retrieve_evaluation(evaluation_id: str, access: AccessDep) -> EvaluationObject:
    """An evaluation with its status, progress and results."""
    with access.read() as (session, caller):
        return EvaluationObject.of(evaluations.get(session, caller, evaluation_id))


@router.post("/{evaluation_id}/cancel", responses=errors(404, 409), summary="Cancel an evaluation")
def cancel_evaluation(evaluation_id: str, access: AccessDep) -> EvaluationObject:
    """End a waiting evaluation at once, and a running one within seconds. Asking twice is asking once."""
    with access.transaction() as (session, caller):
        job = evaluations.cancel(session, caller, evaluation_id)
        if job.status == "cancelled":
            access.wake_after_commit(session, CONTROL_QUEUE)  # which sends its webhooks
        return EvaluationObject.of(job)


@router.get(
    "/{evaluation_id}/events",
    response_model=EvaluationEventList,
    responses=errors(404) | STREAM_RESPONSES,
    summary="List an evaluation's events, or stream them",
)
def list_evaluation_events(
    evaluation_id: str,
    access: AccessDep,
    query: Annotated[EventsQuery, Query()],
    last_event_id: LastEventId = None,
) -> EvaluationEventList | Response:
    """The history in pages, newest first; or, with `stream=true`, server-sent events, as those of fine-tuning jobs."""
    with access.read() as (session, caller):
        job = evaluations.get(session, caller, evaluation_id)
        if not query.stream:
            rows, has_more = events.page(session, job.id, after=query.after, limit=query.limit)
            return EvaluationEventList(data=[EvaluationEvent.of(event) for event in rows], has_more=has_more)
        return open_stream(access, session, job.id, last_event_id, query.after)
