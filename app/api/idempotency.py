"""One lost response must never make two jobs: the `Idempotency-Key` header, and the SDK's silent retries.

The `openai` SDK repeats a POST whose answer it missed and sends no key; it only counts in `x-stainless-retry-count`.
So its first try (`0`) is recorded under path and body, and a retry within some minutes gets the recorded answer.
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.errors import AppError
from app.jobs import idempotency
from app.projects import Caller

RETRY_WINDOW = timedelta(minutes=10)
MAX_KEY = 255

Answer = TypeVar("Answer", bound=BaseModel)


@dataclass(frozen=True)
class Once:
    """What a request says about being a repetition, and when it arrived (`time.monotonic`)."""

    method: str
    path: str
    key: str | None
    retry: int | None
    arrived: float

    def answer(
        self,
        session: Session,
        caller: Caller,
        body: object,
        kind: type[Answer],
        act: Callable[[], Answer],
    ) -> Answer:
        """`act`'s answer, or the one that the same request got before. `body` is all that makes requests the same.

        Raises AppError 409 for a key that came with another body. An action that raises leaves no record.
        """
        if self.key is None and self.retry is None:
            return act()
        body_sha256 = _hash(body)
        if self.key is not None:
            key = _hash(["key", self.method, self.path, self.key])
            replace = idempotency.older_than(idempotency.KEPT_FOR)
        else:
            key = _hash(["retry", self.method, self.path, body_sha256])
            # A first try replaces any record but that of its own retry, which may have overtaken it.
            before_me = idempotency.older_than(timedelta(seconds=time.monotonic() - self.arrived))
            replace = idempotency.older_than(RETRY_WINDOW) if self.retry else idempotency.by_first_request() | before_me
        found = idempotency.begin(session, caller.project_id, key, body_sha256, replace=replace)
        if found is None:
            made = act()
            recorded = {"retry": bool(self.retry), "body": made.model_dump(mode="json")}
            idempotency.record(session, caller.project_id, key, recorded)
            return made
        if found.body_sha256 != body_sha256:
            raise AppError(
                409,
                "idempotency_key_reuse",
                f"Idempotency-Key {self.key!r} was used with another body; use a new key for a new request.",
                "Idempotency-Key",
            )
        return kind.model_validate(found.response["body"])


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


async def get_once(request: Request) -> Once:
    """Read the headers. Raises AppError 400 for a key that is too long."""
    key = request.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= MAX_KEY:
        message = f"Idempotency-Key has {len(key):,} characters; give 1 to {MAX_KEY}."
        raise AppError(400, "invalid_value", message, "Idempotency-Key")
    count = request.headers.get("x-stainless-retry-count", "")
    retry = int(count) if count.isascii() and count.isdigit() and len(count) < 5 else None
    return Once(request.method, request.url.path, key, retry, request.state.started)


OnceDep = Annotated[Once, Depends(get_once)]
