"""Every error as WIRE.md wants it: `{"error": {"message", "type", "param", "code"}}`, whatever raised it."""

import difflib
import logging
from collections.abc import Mapping
from typing import Any, cast

import psycopg
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from app.api.problems import Document, refusal
from app.errors import AppError

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 1
HEADERS: dict[int, dict[str, str]] = {
    401: {"www-authenticate": 'Bearer realm="tailor"'},
    409: {"x-should-retry": "false"},  # the SDK would repeat what cannot succeed
    503: {"retry-after": str(RETRY_AFTER_S)},
}


def respond(error: AppError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The response of an error. 409 always says what is possible now, if only that nothing is."""
    if error.status == 409:
        error.extra.setdefault("allowed", [])
    return JSONResponse(
        error.body(), status_code=error.status, headers={**HEADERS.get(error.status, {}), **(headers or {})}
    )


def internal_error(request_id: str) -> AppError:
    """500: a bug of ours. The log has the rest under the same id."""
    return AppError(
        500, "internal_error", f"Internal error. The server's log explains it under request id {request_id}."
    )


def database_error(error: BaseException) -> AppError:
    """503 where waiting or `tailor migrate` helps, else the bug that it is."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn):
        return AppError(
            503, "database_not_migrated", "The database's schema is older than this program: run `tailor migrate`."
        )
    return AppError(
        503, "database_unavailable", f"The database cannot be reached just now. Try again in {RETRY_AFTER_S} second(s)."
    )


async def _app_error(_: Request, error: Exception) -> JSONResponse:
    return respond(cast(AppError, error))


async def _database_away(_: Request, error: Exception) -> JSONResponse:
    logger.warning("database: %s: %s", type(error).__name__, str(error).partition("\n")[0])
    return respond(database_error(error))


async def _programming_error(_: Request, error: Exception) -> JSONResponse:
    if database_error(error).code != "database_not_migrated":
        raise error
    return respond(database_error(error))


async def _http_exception(request: Request, error: Exception) -> JSONResponse:
    error = cast(HTTPException, error)
    paths: dict[str, dict[str, Any]] = request.app.openapi()["paths"]
    path, method = request.url.path, request.method
    if error.status_code == 404:
        near = difflib.get_close_matches(path, list(paths), n=1, cutoff=0.75)
        hint = f" Did you mean {near[0]}?" if near else " /docs lists all paths."
        return respond(AppError(404, "unknown_path", f"No such path: {method} {path}.{hint}"))
    if error.status_code == 405:
        route = paths.get(getattr(request.scope.get("route"), "path_format", ""), {})
        allowed = sorted(name.upper() for name in route) or ["GET"]
        message = f"{path} does not take {method}; it takes {', '.join(allowed)}."
        refused = AppError(405, "method_not_allowed", message, extra={"allowed": allowed})
        return respond(refused, {"allow": ", ".join(allowed)})
    return respond(AppError(error.status_code, "http_error", str(error.detail)), error.headers)


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    """400 in one sentence. What may stand in the field is read from the OpenAPI document, so it cannot drift."""
    error = cast(RequestValidationError, error)
    document: Document = request.app.openapi()
    operation = document["paths"][request.scope["route"].path_format][request.method.lower()]
    errors = list(error.errors())
    place = errors[0]["loc"][0]
    if place == "body":
        schema, value = operation["requestBody"]["content"]["application/json"]["schema"], error.body
    else:
        named = {item["name"]: item["schema"] for item in operation.get("parameters", []) if item["in"] == place}
        schema, value = {"type": "object", "properties": named}, dict(request.query_params)
    problems = [problem | {"loc": problem["loc"][1:]} for problem in errors if problem["loc"][0] == place]
    return respond(refusal(problems, value, schema, document, place=place))


def install(app: FastAPI) -> None:
    """Answer every exception in WIRE form. Unexpected ones are left to `RequestContext`, which knows the request id."""
    app.add_exception_handler(AppError, _app_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _validation_error)
    for kind in (OperationalError, InterfaceError, PoolTimeoutError, psycopg.OperationalError, psycopg.InterfaceError):
        app.add_exception_handler(kind, _database_away)
    for kind in (ProgrammingError, psycopg.ProgrammingError):
        app.add_exception_handler(kind, _programming_error)
