"""What is sent to webhook endpoints, and the log of it."""

import json
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from app.api.schemas.base import Derived, Object, ResponseModel, one_of, optional_seconds, seconds
from app.api.schemas.job_objects import JOB_ID
from app.api.schemas.webhooks import ENDPOINT_ID, EndpointListQuery, EventType
from app.tables import DELIVERY_STATUSES, WebhookAttempt, WebhookDelivery

EVENT: Object = {
    "id": "evt-3d4e5f60718293a4b5c6d7e8f90112",
    "object": "event",
    "type": "fine_tuning.job.succeeded",
    "created_at": 1767225660,
    "data": {"id": JOB_ID},
}
DELIVERY: Object = {
    "id": "delivery-4e5f60718293a4b5c6d7e8f9011223",
    "object": "webhook_delivery",
    "created_at": 1767225660,
    "finished_at": 1767225666,
    "webhook_endpoint_id": ENDPOINT_ID,
    "status": "succeeded",
    "test": False,
    "event": EVENT,
    "next_attempt_at": None,
    "attempts": [
        {
            "number": 1,
            "started_at": 1767225660,
            "duration_ms": 31,
            "status_code": 503,
            "error": "HTTP 503 Service Unavailable",
            "response": "starting",
        },
        {
            "number": 2,
            "started_at": 1767225666,
            "duration_ms": 12,
            "status_code": 204,
            "error": None,
            "response": "",
        },
    ],
}


class DeliveryListQuery(EndpointListQuery):
    """Which deliveries, and how many."""

    status: Annotated[str | None, Derived(one_of(DELIVERY_STATUSES) | None)] = Field(
        default=None, description="Only deliveries in this state."
    )


class WebhookEventData(ResponseModel):
    """What an event is about."""

    id: str = Field(description="The job.")


class WebhookEvent(ResponseModel):
    """The body of a webhook."""

    model_config = ConfigDict(json_schema_extra={"examples": [EVENT]})

    id: str = Field(description="The same in every attempt and in the header `webhook-id`: process each id once.")
    object: Literal["event"] = "event"
    type: EventType
    created_at: int = Field(description="Unix seconds of when it happened.")
    data: WebhookEventData


class WebhookAttemptObject(ResponseModel):
    """One try at a delivery."""

    number: int
    started_at: int = Field(description="Unix seconds.")
    duration_ms: int | None = Field(description="Null: under way, or the sender ended before the answer came.")
    status_code: int | None = Field(description="Null: no answer came.")
    error: str | None = Field(description="Why it was no success.")
    response: str | None = Field(description="The beginning of the answer's body.")

    @classmethod
    def of(cls, attempt: WebhookAttempt) -> "WebhookAttemptObject":
        """The object of a row."""
        return cls(
            number=attempt.number,
            started_at=seconds(attempt.started_at),
            duration_ms=attempt.duration_ms,
            status_code=attempt.status_code,
            error=attempt.error,
            response=attempt.response,
        )


class WebhookDeliveryObject(ResponseModel):
    """An event for an endpoint, and every attempt to bring it there."""

    model_config = ConfigDict(json_schema_extra={"examples": [DELIVERY]})

    id: str
    object: Literal["webhook_delivery"] = "webhook_delivery"
    created_at: int = Field(description="Unix seconds.")
    finished_at: int | None = Field(description="Unix seconds; null while it is pending.")
    webhook_endpoint_id: str
    status: Literal["pending", "succeeded", "failed"]
    test: bool = Field(description="A sample that was asked for, which is sent once.")
    event: WebhookEvent = Field(description="The body that is sent.")
    next_attempt_at: int | None = Field(description="Unix seconds; null once it has ended.")
    attempts: list[WebhookAttemptObject] = Field(description="Oldest first.")

    @classmethod
    def of(cls, delivery: WebhookDelivery, attempts: list[WebhookAttempt]) -> "WebhookDeliveryObject":
        """The object of a row and its attempts."""
        event: Any = json.loads(delivery.body)
        return cls.model_validate(
            {
                "id": delivery.id,
                "created_at": seconds(delivery.created_at),
                "finished_at": optional_seconds(delivery.finished_at),
                "webhook_endpoint_id": delivery.endpoint_id,
                "status": delivery.status,
                "test": delivery.test,
                "event": event,
                "next_attempt_at": optional_seconds(delivery.next_attempt_at),
                "attempts": [WebhookAttemptObject.of(attempt) for attempt in attempts],
            }
        )


class WebhookDeliveryList(ResponseModel):
    """A page of deliveries, newest first."""

    object: Literal["list"] = "list"
    data: list[WebhookDeliveryObject]
    has_more: bool
