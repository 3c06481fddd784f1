"""Checkpoints of a fine-tuning job."""

from typing import Any, Literal

from pydantic import ConfigDict

from app.api.schemas.base import ResponseModel, seconds
from app.api.schemas.job_objects import JOB_ID, MODEL_ID
from app.tables import Checkpoint


class CheckpointObject(ResponseModel):
    """A step whose weights were kept; its model id is usable wherever a model id is."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "ftckpt-7d8e9fa0b1c2d3e4f5061728394a5b",
                    "object": "fine_tuning.job.checkpoint",
                    "created_at": 1767225640,
                    "fine_tuning_job_id": JOB_ID,
                    "fine_tuned_model_checkpoint": f"{MODEL_ID}:ckpt-step-32",
                    "step_number": 32,
                    "metrics": {"step": 32, "train_loss": 0.41, "valid_loss": 0.38},
                }
            ]
        }
    )

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuning_job_id: str
    fine_tuned_model_checkpoint: str
    step_number: int
    metrics: dict[str, Any]

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> "CheckpointObject":
        """The object of a row."""
        return cls(
            id=checkpoint.id,
            created_at=seconds(checkpoint.created_at),
            fine_tuning_job_id=checkpoint.job_id,
            fine_tuned_model_checkpoint=checkpoint.model_id,
            step_number=checkpoint.step,
            metrics={"step": checkpoint.step} | checkpoint.metrics,
        )


class CheckpointList(ResponseModel):
    """A page of checkpoints, newest first."""

    object: Literal["list"] = "list"
    data: list[CheckpointObject]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def of(cls, checkpoints: list[Checkpoint], has_more: bool) -> "CheckpointList":
        """The page of rows."""
        data = [CheckpointObject.of(checkpoint) for checkpoint in checkpoints]
        first_id, last_id = (data[0].id, data[-1].id) if data else (None, None)
        return cls(data=data, first_id=first_id, last_id=last_id, has_more=has_more)
