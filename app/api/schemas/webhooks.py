"""Webhook endpoints. The objects are those of the `openai` SDK's `client.webhooks`, extended."""

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, StrictBool

from app.api.schemas.base import Derived, Object, RequestModel, ResponseModel, one_of, optional_seconds, seconds
from app.tables import WebhookEndpoint
from app.webhooks import signatures
from app.webhooks.destinations import MAX_URL_CHARACTERS
from app.webhooks.endpoints import Changes, NewEndpoint
from app.webhooks.outbox import EVENT_TYPES

ENDPOINT_ID = "webhook-2c3d4e5f60718293a4b5c6d7e8f901"
CREATE: Object = {
    "name": "Deployment",
    "url": "https://example.com/webhooks",
    "event_types": ["fine_tuning.job.succeeded", "fine_tuning.job.failed"],
}
EXAMPLE: Object = {
    "id": ENDPOINT_ID,
    "object": "webhook_endpoint",
    "created_at": 1767225600,
    "updated_at": 1767225600,
    **CREATE,
    "signing_secret_hint": "whsec_…b3Bq",
    "previous_secret_expires_at": None,
    "status": "enabled",
    "disabled_at": None,
    "disabled_reason": None,
    "failing_since": None,
}


def _some_once(names: list[str]) -> list[str]:
    if not names:
        raise ValueError(f"it is empty; name at least one of {', '.join(EVENT_TYPES)}")
    return list(dict.fromkeys(names))


EventType = Annotated[str, Derived(one_of(EVENT_TYPES))]
EventTypes = Annotated[list[EventType], AfterValidator(_some_once)]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Url = Annotated[str, Field(min_length=1, max_length=MAX_URL_CHARACTERS)]


class WebhookEndpointCreate(RequestModel):
    """A webhook endpoint as asked for."""

    model_config = ConfigDict(json_schema_extra={"examples": [CREATE]})

    name: Name = Field(description="For people.")
    url: Url = Field(description="Where to POST events: https, on a public address.")
    event_types: EventTypes = Field(description="What to hear of; `GET /v1/webhook_event_types` lists all.")

    def to_new_endpoint(self) -> NewEndpoint:
        """The endpoint for the service."""
        return NewEndpoint(self.name, self.url, self.event_types)


class WebhookEndpointUpdate(RequestModel):
    """What to change of a webhook endpoint; what is left out stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "enabled"}, CREATE]})

    name: Name | None = Field(default=None, description="For people.")
    url: Url | None = Field(default=None, description="Where to POST events from now on, pending ones included.")
    event_types: EventTypes | None = Field(default=None, description="All that the endpoint hears of from now on.")
    status: Literal["enabled", "disabled"] | None = Field(
        default=None, description="`disabled`: hear nothing, and end what is pending; `enabled`: hear again."
    )

    def to_changes(self) -> Changes:
        """The changes for the service."""
        enabled = None if self.status is None else self.status == "enabled"
        return Changes(self.name, self.url, self.event_types, enabled)


class WebhookSecretRotation(RequestModel):
    """How to change secrets."""

    keep_old_secret_active_for_24_hours: StrictBool = Field(
        default=False, description="Sign with both for a day, so that receivers can change over."
    )


class WebhookEndpointTest(RequestModel):
    """What to send as a test."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"event_type": "fine_tuning.job.succeeded"}]})

    event_type: EventType = Field(description="The event to make up.")


class EndpointListQuery(RequestModel):
    """A page of endpoints."""

    limit: int = Field(default=20, ge=1, le=100, description="Length of a page.")
    after: str | None = Field(default=None, description="Cursor: the last id of the page before.")


def _fields(endpoint: WebhookEndpoint) -> Object:
    return {
        "id": endpoint.id,
        "created_at": seconds(endpoint.created_at),
        "updated_at": seconds(endpoint.updated_at),
        "name": endpoint.name,
        "url": endpoint.url,
        "event_types": endpoint.event_types,
        "signing_secret_hint": signatures.hint(endpoint.secret),
        "previous_secret_expires_at": optional_seconds(endpoint.previous_secret_expires_at),
        "status": endpoint.status,
        "disabled_at": optional_seconds(endpoint.disabled_at),
        "disabled_reason": endpoint.disabled_reason,
        "failing_since": optional_seconds(endpoint.failing_since),
    }


class WebhookEndpointObject(ResponseModel):
    """A URL that hears of events."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    created_at: int = Field(description="Unix seconds.")
    updated_at: int = Field(description="Unix seconds of the last change of the endpoint or its secret.")
    name: str
    url: str
    event_types: list[str]
    signing_secret_hint: str = Field(description="The end of the secret.")
    previous_secret_expires_at: int | None = Field(description="Until then, a rotated secret signs as well.")
    status: Literal["enabled", "disabled"]
    disabled_at: int | None
    disabled_reason: str | None = Field(description="Why nothing is sent: asked for, 410 Gone, or days of failures.")
    failing_since: int | None = Field(description="When the failures since the last success began; null: none.")

    @classmethod
    def of(cls, endpoint: WebhookEndpoint) -> "WebhookEndpointObject":
        """The object of a row."""
        return cls.model_validate(_fields(endpoint))


class WebhookEndpointWithSecret(WebhookEndpointObject):
    """A webhook endpoint with its secret, which is shown at its making and never again."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [EXAMPLE | {"signing_secret": "whsec_c2VjcmV0IGZvciB0aGUgZG9jdW1lbnRzb3Bq"}]}
    )

    signing_secret: str = Field(repr=False, description="For `client.webhooks.unwrap(…, secret=…)`. Keep it safe.")

    @classmethod
    def of(cls, endpoint: WebhookEndpoint) -> "WebhookEndpointWithSecret":
        """The object of a row."""
        return cls.model_validate(_fields(endpoint) | {"signing_secret": endpoint.secret})


class WebhookEndpointList(ResponseModel):
    """A page of endpoints, newest first."""

    object: Literal["list"] = "list"
    data: list[WebhookEndpointObject]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def of(cls, endpoints: list[WebhookEndpoint], has_more: bool) -> "WebhookEndpointList":
        """The page of rows."""
        data = [WebhookEndpointObject.of(endpoint) for endpoint in endpoints]
        first_id, last_id = (data[0].id, data[-1].id) if data else (None, None)
        return cls(data=data, first_id=first_id, last_id=last_id, has_more=has_more)


class DeletedWebhookEndpoint(ResponseModel):
    """What a delete answers."""

    id: str
    object: Literal["webhook_endpoint.deleted"] = "webhook_endpoint.deleted"
    deleted: Literal[True] = True


class WebhookEventTypeList(ResponseModel):
    """Every event type there is."""

    object: Literal["list"] = "list"
    data: list[str] = Field(examples=[list(EVENT_TYPES)])


class WebhookEndpointTestResult(ResponseModel):
    """What the endpoint answered to a test."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "object": "webhook_endpoint.test",
                    "webhook_endpoint_id": ENDPOINT_ID,
                    "event_type": "fine_tuning.job.succeeded",
                    "success": True,
                    "status_code": 200,
                }
            ]
        }
    )

    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"
    webhook_endpoint_id: str
    event_type: str
    success: Literal[True] = Field(default=True, description="An answer came; whether a good one, `status_code` says.")
    status_code: int
