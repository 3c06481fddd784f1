"""What all objects share: strict requests, open lists, times in Unix seconds."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema

Object = dict[str, Any]


class RequestModel(BaseModel):
    """A body, a form or a query: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ResponseModel(BaseModel):
    """An object of an answer."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


class Derived:
    """An annotation that takes a field's schema from a type made at run time, such as a union of catalogue entries."""

    def __init__(self, type_: Any) -> None:
        self._type = type_

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Pydantic's hook: validate as the given type, whatever the annotation says."""
        return handler.generate_schema(self._type)


def one_of(names: Iterable[str]) -> Any:
    """The type of strings that are one of `names`."""
    return cast(Any, Literal)[tuple(names)]


class ErrorBody(ResponseModel):
    """The four keys of every error; `line`, `column`, `allowed` or `errors` may join them."""

    model_config = ConfigDict(extra="allow")

    message: str = Field(description="One sentence: what, the value found, the values allowed, the fix.")
    type: str = Field(description="The kind of error, by status.")
    param: str | None = Field(description="Dotted path of the field that is wrong.")
    code: str = Field(description="What programs branch on.")


class ErrorResponse(ResponseModel):
    """Every answer that is not 200, 206 or 304."""

    error: ErrorBody


class Deleted(ResponseModel):
    """What a delete answers."""

    id: str
    object: Literal["file", "model"]
    deleted: Literal[True] = True


def seconds(moment: datetime) -> int:
    """A time in integer Unix seconds."""
    return int(moment.timestamp())


def optional_seconds(moment: datetime | None) -> int | None:
    """As `seconds`, for a time that may be missing."""
    return None if moment is None else seconds(moment)


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error statuses of an endpoint, for OpenAPI. Those that any endpoint may answer are always there."""
    return {status: {"model": ErrorResponse, "description": REASONS[status]} for status in (*statuses, 400, 401, 503)}


REASONS = {
    400: "A value is not allowed; `param` names it.",
    401: "The API key is missing, unknown or revoked.",
    403: "Not allowed.",
    404: "It does not exist in the key's project.",
    409: "Its state does not allow this.",
    413: "Too large.",
    416: "The range lies outside.",
    422: "The body is malformed.",
    503: "The database is away; try again after `Retry-After` seconds.",
}
