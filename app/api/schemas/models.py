"""Models and their files."""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from app.api.schemas.base import ResponseModel, seconds
from app.api.schemas.job_objects import JOB_ID, MODEL_ID
from app.tables import Model, StoredFile


class ModelObject(ResponseModel):
    """A base model, a fine-tuned model or a checkpoint."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": MODEL_ID,
                    "object": "model",
                    "created": 1767225660,
                    "owned_by": "proj-5f0c2d1e9ab4c7d8e6f1a2b3c4d5e6",
                    "kind": "fine_tuned",
                    "family": "bert",
                    "task": "text-classification",
                    "labels": ["negative", "positive"],
                    "parent": "starter/minilm-l6",
                    "job": JOB_ID,
                    "metrics": {"accuracy": 0.91},
                    "bytes": 91_000_000,
                    "max_length": 512,
                    "problem": None,
                }
            ]
        }
    )

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="Unix seconds.")
    owned_by: str = Field(description="`tailor` for base models, else the project.")
    kind: Literal["base", "fine_tuned", "checkpoint"]
    family: str | None = Field(description="Transformers' model type.")
    task: str | None
    labels: list[str] | None
    parent: str | None = Field(description="The model it was made from.")
    job: str | None = Field(description="The job that made it.")
    metrics: dict[str, Any] | None
    bytes: int
    max_length: int | None = Field(description="Window in tokens.")
    problem: str | None = Field(description="Why a base model cannot be used; null: it can.")

    @classmethod
    def of(cls, model: Model) -> "ModelObject":
        """The object of a row."""
        return cls.model_validate(
            {
                "id": model.id,
                "created": seconds(model.created_at),
                "owned_by": model.project_id or "tailor",
                "kind": model.kind,
                "family": model.family,
                "task": model.task,
                "labels": model.labels,
                "parent": model.parent,
                "job": model.job_id,
                "metrics": model.metrics,
                "bytes": model.bytes,
                "max_length": model.max_length,
                "problem": model.problem,
            }
        )


class ModelList(ResponseModel):
    """All base models, and the fine-tuned ones of the project. Never in pages."""

    object: Literal["list"] = "list"
    data: list[ModelObject]


class ModelFile(ResponseModel):
    """A file of a model's directory."""

    object: Literal["model.file"] = "model.file"
    path: str = Field(examples=["model.safetensors"])
    bytes: int
    sha256: str

    @classmethod
    def of(cls, file: StoredFile) -> "ModelFile":
        """The object of a row."""
        return cls(path=file.path, bytes=file.bytes, sha256=file.sha256)


class ModelFileList(ResponseModel):
    """A model's directory."""

    object: Literal["list"] = "list"
    data: list[ModelFile]
