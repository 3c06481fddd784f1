"""`/v1/webhook_endpoints`, with the paths of the SDK's `client.webhooks`, and the log of deliveries."""

import time
from typing import Annotated

import anyio
from fastapi import APIRouter, Body, Query
from fastapi.concurrency import run_in_threadpool

from app.api.deps import Access, AccessDep
from app.api.idempotency import Once, OnceDep
from app.api.schemas.base import errors
from app.api.schemas.webhook_deliveries import (
    DeliveryListQuery,
    WebhookDeliveryList,
    WebhookDeliveryObject,
    WebhookEvent,
)
from app.api.schemas.webhooks import (
    DeletedWebhookEndpoint,
    EndpointListQuery,
    WebhookEndpointCreate,
    WebhookEndpointList,
    WebhookEndpointObject,
    WebhookEndpointTest,
    WebhookEndpointTestResult,
    WebhookEndpointUpdate,
    WebhookEndpointWithSecret,
    WebhookEventTypeList,
    WebhookSecretRotation,
)
from app.errors import AppError
from app.queue import CONTROL_QUEUE
from app.tables import WebhookAttempt
from app.webhooks import deliveries, destinations, endpoints, outbox

router = APIRouter(prefix="/v1", tags=["Webhooks"])
sent = APIRouter(tags=["Webhooks"])  # what Tailor sends, for the OpenAPI document

POLL_S = 0.1
WORKER_SLACK_S = 5.0


@router.get("/webhook_event_types", responses=errors(), summary="List webhook event types")
def list_event_types(access: AccessDep) -> WebhookEventTypeList:
    """Everything that an endpoint can hear of."""
    access.authenticate()
    return WebhookEventTypeList(data=list(outbox.EVENT_TYPES))


async def _check_url(access: Access, url: str | None) -> None:
    """Refuse a URL before a transaction begins: looking its host up takes as long as its owner likes."""
    await run_in_threadpool(access.authenticate)
    if url is not None:
        await destinations.resolve(url, private_allowed=access.state.settings.webhook_private_addresses == "on")


@router.post("/webhook_endpoints", responses=errors(409, 413, 422), summary="Create a webhook endpoint")
async def create_endpoint(body: WebhookEndpointCreate, access: AccessDep, once: OnceDep) -> WebhookEndpointWithSecret:
    """Register a URL. The answer holds the signing secret, which is never shown again."""
    await _check_url(access, body.url)
    return await run_in_threadpool(_create, body, access, once)


def _create(body: WebhookEndpointCreate, access: Access, once: Once) -> WebhookEndpointWithSecret:
    limit = access.state.settings.max_webhook_endpoints
    with access.transaction() as (session, caller):

        def act() -> WebhookEndpointWithSecret:
            return WebhookEndpointWithSecret.of(endpoints.create(session, caller, body.to_new_endpoint(), limit=limit))

        return once.answer(session, caller, body.model_dump(mode="json"), WebhookEndpointWithSecret, act)


@router.get("/webhook_endpoints", responses=errors(404), summary="List webhook endpoints")
def list_endpoints(access: AccessDep, query: Annotated[EndpointListQuery, Query()]) -> WebhookEndpointList:
    """The project's endpoints in pages, newest first."""
    with access.read() as (session, caller):
        rows, has_more = endpoints.page(session, caller, after=query.after, limit=query.limit)
    return WebhookEndpointList.of(rows, has_more)


@router.get("/webhook_endpoints/{endpoint_id}", responses=errors(404), summary="Retrieve a webhook endpoint")
def retrieve_endpoint(endpoint_id: str, access: AccessDep) -> WebhookEndpointObject:
    """An endpoint, and whether it works: `status`, `disabled_reason`, `failing_since`."""
    with access.read() as (session, caller):
        return WebhookEndpointObject.of(endpoints.get(session, caller, endpoint_id))


@router.post("/webhook_endpoints/{endpoint_id}", responses=errors(404, 413, 422), summary="Update a webhook endpoint")
async def update_endpoint(endpoint_id: str, body: WebhookEndpointUpdate, access: AccessDep) -> WebhookEndpointObject:
    """Change what is given, or enable an endpoint that was disabled after 410 Gone or days of failures."""
    await _check_url(access, body.url)
    return await run_in_threadpool(_update, endpoint_id, body, access)


def _update(endpoint_id: str, body: WebhookEndpointUpdate, access: Access) -> WebhookEndpointObject:
    with access.transaction() as (session, caller):
        return WebhookEndpointObject.of(endpoints.update(session, caller, endpoint_id, body.to_changes()))


@router.delete("/webhook_endpoints/{endpoint_id}", responses=errors(404), summary="Delete a webhook endpoint")
def delete_endpoint(endpoint_id: str, access: AccessDep) -> DeletedWebhookEndpoint:
    """Delete an endpoint with its log; what was pending for it is not sent any more."""
    with access.transaction() as (session, caller):
        endpoints.delete(session, caller, endpoint_id)
    return DeletedWebhookEndpoint(id=endpoint_id)


@router.post(
    "/webhook_endpoints/{endpoint_id}/rotate_secret",
    responses=errors(404, 409, 413, 422),
    summary="Rotate a webhook endpoint's secret",
)
def rotate_secret(
    endpoint_id: str, access: AccessDep, once: OnceDep, body: Annotated[WebhookSecretRotation | None, Body()] = None
) -> WebhookEndpointWithSecret:
    """Make a new secret. The old one ends at once, or signs beside the new one for 24 hours."""
    asked = body or WebhookSecretRotation()
    with access.transaction() as (session, caller):

        def act() -> WebhookEndpointWithSecret:
            keep_old = asked.keep_old_secret_active_for_24_hours
            return WebhookEndpointWithSecret.of(
                endpoints.rotate_secret(session, caller, endpoint_id, keep_old=keep_old)
            )

        return once.answer(session, caller, asked.model_dump(mode="json"), WebhookEndpointWithSecret, act)


@router.post(
    "/webhook_endpoints/{endpoint_id}/test",
    responses=errors(404, 413, 422),
    summary="Send a test to a webhook endpoint",
)
async def test_endpoint(endpoint_id: str, body: WebhookEndpointTest, access: AccessDep) -> WebhookEndpointTestResult:
    """Send a made-up event the way real ones go, signed and from a control worker, and answer what came back.

    It is sent once, also to a disabled endpoint, and stands in the log. The job it names does not exist. 400 where no
    HTTP answer came.
    """
    # A test may have to wait for another delivery to the same endpoint.
    limit_s = 2 * access.state.settings.webhook_timeout_s + WORKER_SLACK_S
    delivery_id = await run_in_threadpool(_write_test, endpoint_id, body.event_type, access)
    deadline = time.monotonic() + limit_s
    while (attempt := await run_in_threadpool(_ended_test, delivery_id, access)) is None:
        if time.monotonic() > deadline:
            await run_in_threadpool(_withdraw, delivery_id, access)
            message = (
                f"No control worker sent the test within {limit_s:g} s; check that `tailor worker --control` runs."
            )
            raise AppError(503, "no_control_worker", message)
        await anyio.sleep(POLL_S)
    if attempt.status_code is None:
        message = f"The test got no answer. {attempt.error}"
        raise AppError(400, "webhook_test_failed", message, extra={"delivery": delivery_id})
    return WebhookEndpointTestResult(
        webhook_endpoint_id=endpoint_id, event_type=body.event_type, status_code=attempt.status_code
    )


def _write_test(endpoint_id: str, event_type: str, access: Access) -> str:
    with access.transaction() as (session, caller):
        endpoint = endpoints.get(session, caller, endpoint_id)
        access.wake_after_commit(session, CONTROL_QUEUE)
        return outbox.write_test(session, endpoint, event_type)


def _ended_test(delivery_id: str, access: Access) -> WebhookAttempt | None:
    with access.state.reading() as session:
        return deliveries.last_attempt_of_ended(session, delivery_id)


def _withdraw(delivery_id: str, access: Access) -> None:
    with access.transaction() as (session, _):
        deliveries.withdraw(session, delivery_id)


@router.get(
    "/webhook_endpoints/{endpoint_id}/deliveries", responses=errors(404), summary="List a webhook endpoint's deliveries"
)
def list_deliveries(
    endpoint_id: str, access: AccessDep, query: Annotated[DeliveryListQuery, Query()]
) -> WebhookDeliveryList:
    """The log in pages, newest first: each event with every attempt, what came back and when it is tried again."""
    with access.read() as (session, caller):
        endpoint = endpoints.get(session, caller, endpoint_id)
        rows, has_more = deliveries.page(
            session, endpoint.id, after=query.after, limit=query.limit, status=query.status
        )
        attempts = deliveries.attempts(session, [row.id for row in rows])
    return WebhookDeliveryList(
        data=[WebhookDeliveryObject.of(row, attempts[row.id]) for row in rows], has_more=has_more
    )


@router.get(
    "/webhook_endpoints/{endpoint_id}/deliveries/{delivery_id}",
    responses=errors(404),
    summary="Retrieve a webhook delivery",
)
def retrieve_delivery(endpoint_id: str, delivery_id: str, access: AccessDep) -> WebhookDeliveryObject:
    """One event for an endpoint, with every attempt."""
    with access.read() as (session, caller):
        endpoint = endpoints.get(session, caller, endpoint_id)
        delivery = deliveries.get(session, endpoint.id, delivery_id)
        return WebhookDeliveryObject.of(delivery, deliveries.attempts(session, [delivery.id])[delivery.id])


@router.post(
    "/webhook_endpoints/{endpoint_id}/deliveries/{delivery_id}/replay",
    responses=errors(404, 409),
    summary="Replay a webhook delivery",
)
def replay_delivery(endpoint_id: str, delivery_id: str, access: AccessDep) -> WebhookDeliveryObject:
    """Send the same event again, with the same id, at once and with new retries. 409 while the endpoint is disabled."""
    with access.transaction() as (session, caller):
        endpoint = endpoints.get(session, caller, endpoint_id, lock=True)
        delivery = deliveries.replay(session, endpoint, delivery_id)
        access.wake_after_commit(session, CONTROL_QUEUE)
        return WebhookDeliveryObject.of(delivery, deliveries.attempts(session, [delivery.id])[delivery.id])


@sent.post("job", summary="A fine-tuning job or an evaluation has ended")
def job_ended(body: WebhookEvent) -> None:
    """POSTed to every endpoint that subscribed to `type`. Answer with 2xx in time; anything else is tried again.

    Headers of Standard Webhooks: `webhook-id`, `webhook-timestamp` and `webhook-signature`, which is `v1,` and the
    base64 of HMAC-SHA256 over `id.timestamp.body`.
    """
