"""The history of fine-tuning jobs and evaluations, line by line."""

from typing import Any, Literal, Self

from pydantic import ConfigDict, Field

from app.api.schemas.base import Object, ResponseModel, seconds
from app.tables import JobEvent

JOB_EVENT: Object = {
    "id": "ftevent-7d8e9fa0b1c2d3e4f5061728394a5b",
    "object": "fine_tuning.job.event",
    "created_at": 1767225601,
    "level": "info",
    "message": "Job started",
    "type": "message",
    "data": {"attempt": 1},
}
EVALUATION_EVENT: Object = {
    "id": "evalevent-8e9fa0b1c2d3e4f5061728394a5b6c",
    "object": "evaluation.event",
    "created_at": 1767225701,
    "level": "info",
    "message": "Evaluating on 400 rows, on cpu in fp32",
    "type": "message",
    "data": {},
}


class HistoryLine(ResponseModel):
    """What a line of any job's history says."""

    id: str
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any]

    @classmethod
    def of(cls, event: JobEvent) -> Self:
        """The object of a row."""
        return cls.model_validate(
            {
                "id": event.id,
                "created_at": seconds(event.created_at),
                "level": event.level,
                "message": event.message,
                "type": event.type,
                "data": event.data,
            }
        )


class EventObject(HistoryLine):
    """A line of a job's history."""

    model_config = ConfigDict(json_schema_extra={"examples": [JOB_EVENT]})

    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    data: dict[str, Any] = Field(
        description="Of `metrics`: `step`, `epoch`, `split`, the numbers (`train_loss`, `valid_loss`), and `stage` "
        "where it is not the job's task that is trained."
    )


class EventList(ResponseModel):
    """A page of events, newest first."""

    object: Literal["list"] = "list"
    data: list[EventObject]
    has_more: bool


class EvaluationEvent(HistoryLine):
    """A line of an evaluation's history."""

    model_config = ConfigDict(json_schema_extra={"examples": [EVALUATION_EVENT]})

    object: Literal["evaluation.event"] = "evaluation.event"


class EvaluationEventList(ResponseModel):
    """A page of events, newest first."""

    object: Literal["list"] = "list"
    data: list[EvaluationEvent]
    has_more: bool
