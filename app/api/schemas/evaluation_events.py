"""An evaluation's history, and where it stands, as event streams send it."""

from typing import Any, Literal

from pydantic import ConfigDict

from app.api.schemas.base import ResponseModel, optional_seconds, seconds
from app.api.schemas.evaluations import EvaluationStatus
from app.tables import Job, JobEvent


class EvaluationEvent(ResponseModel):
    """A line of an evaluation's history."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "evalevent-8e9fa0b1c2d3e4f5061728394a5b6c",
                    "object": "evaluation.event",
                    "created_at": 1767225701,
                    "level": "info",
                    "message": "Evaluating on 400 rows, on cpu in fp32",
                    "type": "message",
                    "data": {},
                }
            ]
        }
    )

    id: str
    object: Literal["evaluation.event"] = "evaluation.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any]

    @classmethod
    def of(cls, event: JobEvent) -> "EvaluationEvent":
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


class EvaluationEventList(ResponseModel):
    """A page of events, newest first."""

    object: Literal["list"] = "list"
    data: list[EvaluationEvent]
    has_more: bool


class EvaluationProgress(ResponseModel):
    """Where an evaluation stands. Only event streams send it."""

    object: Literal["evaluation.progress"] = "evaluation.progress"
    evaluation_id: str
    status: EvaluationStatus
    attempt: int
    progress: dict[str, Any] | None
    estimated_finish: int | None

    @classmethod
    def of(cls, job: Job) -> "EvaluationProgress":
        """The object of a row."""
        return cls.model_validate(
            {
                "evaluation_id": job.id,
                "status": job.status,
                "attempt": job.attempt,
                "progress": job.progress,
                "estimated_finish": optional_seconds(job.estimated_finish),
            }
        )
