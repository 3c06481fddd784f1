"""Errors a client sees: `{"error": {"message", "type", "param", "code"}}`, all four keys always there."""

from dataclasses import dataclass, field
from typing import Any

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "service_unavailable_error",
}


@dataclass(eq=False)
class AppError(Exception):
    """A refusal with its HTTP status. `extra` (`line`, `column`, `allowed`, ...) joins the four keys."""

    status: int
    code: str
    message: str
    param: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.message

    def body(self) -> dict[str, Any]:
        """The response body in WIRE form."""
        kind = TYPES.get(self.status, "invalid_request_error")
        return {
            "error": {"message": self.message, "type": kind, "param": self.param, "code": self.code} | self.extra,
        }


def not_found(noun: str, id_: str, param: str | None = None) -> AppError:
    """404 for a thing that does not exist, or that another project owns: the caller cannot tell which."""
    return AppError(404, f"{noun.replace(' ', '_')}_not_found", f"No such {noun}: {id_!r}", param)
