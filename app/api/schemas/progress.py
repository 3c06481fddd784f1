"""Where fine-tuning jobs and evaluations stand, as their event streams send it."""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from app.api.schemas.base import ResponseModel, optional_seconds
from app.api.schemas.evaluations import EvaluationStatus
from app.api.schemas.job_objects import JOB_ID, JobStatus
from app.tables import Job


class ProgressObject(ResponseModel):
    """Where a job stands: what changes on it while it runs. Only event streams send it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "object": "fine_tuning.job.progress",
                    "fine_tuning_job_id": JOB_ID,
                    "status": "running",
                    "attempt": 1,
                    "step": 40,
                    "total_steps": 96,
                    "epoch": 1.25,
                    "examples_per_second": 210.4,
                    "stage": None,
                    "estimated_finish": 1767225660,
                }
            ]
        }
    )

    object: Literal["fine_tuning.job.progress"] = "fine_tuning.job.progress"
    fine_tuning_job_id: str
    status: JobStatus
    attempt: int
    step: int | None = Field(default=None, description="Null, as the next three, until the job has trained a step.")
    total_steps: int | None = None
    epoch: float | None = None
    examples_per_second: float | None = None
    stage: str | None = Field(default=None, description="As in metrics.")
    estimated_finish: int | None

    @classmethod
    def of(cls, job: Job) -> "ProgressObject":
        """The object of a row."""
        return cls.model_validate(
            {
                "fine_tuning_job_id": job.id,
                "status": job.status,
                "attempt": job.attempt,
                "estimated_finish": optional_seconds(job.estimated_finish),
                **(job.progress or {}),
            }
        )


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
