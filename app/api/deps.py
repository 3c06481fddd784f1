"""What endpoints ask for: the way into the database as the caller, and the process's state."""

import functools
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.orm import Session

from app.api.state import State, state_of
from app.db import after_commit, transaction
from app.errors import AppError
from app.projects import Caller, authenticate

bearer = HTTPBearer(
    auto_error=False,
    scheme_name="API key",
    description="A key that `tailor keys create` printed; `tailor up` leaves one in `<data dir>/api_key`.",
)
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]


async def get_state(request: Request) -> State:
    """The application's state."""
    return state_of(request)


StateDep = Annotated[State, Depends(get_state)]


@dataclass(frozen=True)
class Access:
    """A request's way into the database: the bearer key, checked in the transaction that it opens.

    Endpoints enter the transaction themselves, so that authentication, work and commit are one call of a worker
    thread, the answer is sent after the commit, and no connection is held while the request waits for a thread.
    """

    state: State
    key: str

    @contextmanager
    def transaction(self) -> Generator[tuple[Session, Caller]]:
        """One transaction and who makes it: committed at the end, rolled back on any exception.

        Raises AppError 401 for an unknown or a revoked key.
        """
        with transaction(self.state.sessions) as session:
            yield session, authenticate(session, self.key)

    @contextmanager
    def read(self) -> Generator[tuple[Session, Caller]]:
        """As `transaction`, for endpoints that only look something up."""
        with self.state.reading() as session:
            yield session, authenticate(session, self.key)

    def authenticate(self) -> Caller:
        """Who calls. Raises AppError 401."""
        with self.read() as (_, caller):
            return caller

    def wake_after_commit(self, session: Session, *queues: str) -> None:
        """Wake the workers of these queues once the transaction has committed."""
        for queue in queues:
            after_commit(session, functools.partial(self.state.waker.wake, queue))


async def get_access(request: Request, state: StateDep, credentials: Credentials) -> Access:
    """The way in for the bearer key. Raises AppError 401 where there is none."""
    if credentials is not None and credentials.credentials:
        return Access(state, credentials.credentials)
    header = request.headers.get("authorization")
    if header is None:
        message = (
            "You did not provide an API key: send the header `Authorization: Bearer <key>`; `tailor keys create` "
            "makes a key."
        )
        raise AppError(401, "missing_api_key", message)
    scheme = header.partition(" ")[0][:20]
    message = f"The Authorization header begins with {scheme!r} or has no key: send `Authorization: Bearer <key>`."
    raise AppError(401, "invalid_authorization_header", message)


AccessDep = Annotated[Access, Depends(get_access)]
