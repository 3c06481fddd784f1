"""`/healthz` and `/readyz`, without a key."""

from typing import Literal

import redis
from fastapi import APIRouter
from sqlalchemy.exc import SQLAlchemyError

from app.api.deps import StateDep
from app.api.errors import database_error
from app.api.schemas.base import ErrorResponse
from app.api.schemas.health import Live, Ready, Workers
from app.api.state import State
from app.db import is_migrated, transaction
from app.errors import AppError
from app.jobs import workers

router = APIRouter(tags=["Health"])


@router.get("/healthz", summary="Whether the process lives")
@router.head("/healthz", include_in_schema=False)
async def healthz() -> Live:
    """Answers without asking the database: restart the process when this fails."""
    return Live()


@router.get("/readyz", responses={503: {"model": ErrorResponse}}, summary="Whether the process can work")
@router.head("/readyz", include_in_schema=False)
def readyz(state: StateDep) -> Ready:
    """Database, Redis, workers: send no requests here while this is 503."""
    redis_status = _redis_status(state)
    try:
        with transaction(state.sessions) as session:
            if not is_migrated(session):
                message = "The database's schema is not the one this program needs: run `tailor migrate`."
                raise AppError(503, "database_not_migrated", message)
            counts = workers.count(session)
    except SQLAlchemyError as error:
        refused = database_error(error)
        refused.extra |= {"database": "unavailable", "redis": redis_status}
        raise refused from error
    return Ready(
        status="ok" if redis_status == "ok" else "degraded", redis=redis_status, workers=Workers.model_validate(counts)
    )


def _redis_status(state: State) -> Literal["ok", "unavailable"]:
    try:
        state.redis.ping()
    except redis.RedisError:
        return "unavailable"
    return "ok"
