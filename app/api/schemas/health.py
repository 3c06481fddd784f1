"""Whether the process lives and can work."""

from typing import Literal

from app.api.schemas.base import ResponseModel


class Live(ResponseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Workers(ResponseModel):
    """Workers heard of in the last two minutes."""

    training: int
    control: int


class Ready(ResponseModel):
    """What the process depends on. Without Redis all works, and jobs start some seconds later."""

    status: Literal["ok", "degraded"]
    database: Literal["ok"] = "ok"
    redis: Literal["ok", "unavailable"]
    workers: Workers
