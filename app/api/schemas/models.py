"""Models and their files."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from app.api.schemas.base import Object, RequestModel, ResponseModel, seconds
from app.api.schemas.files import FILE_ID
from app.api.schemas.job_objects import JOB_ID, MODEL_ID
from app.api.schemas.jobs import FileId
from app.jobs.registrations import NewModel
from app.registry.models import fitting_tasks
from app.tables import Model, StoredFile

REGISTERED_ID = "@default/my-bert"
RESERVED = ("files", "archive")  # what follows a model's id in paths
FROM_FILE: Object = {"file": FILE_ID, "name": "my-bert"}
FROM_HUB: Object = {"hub": "answerdotai/ModernBERT-base", "revision": "main"}
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
RULE = f"{' and '.join(RESERVED)} are parts of the paths of models, and others have 1 to 64 letters, digits, . _ -"


class ModelCreate(RequestModel):
    """A base model to be registered: `file` and `name`, or `hub`."""

    model_config = ConfigDict(json_schema_extra={"examples": [FROM_FILE, FROM_HUB]})

    file: FileId | None = Field(
        default=None,
        description="Id of an uploaded tar, tar.gz or zip of a Transformers directory: config.json, tokenizer.json and "
        "safetensors weights. The archive of a model that any Tailor made will do. It may be deleted as soon as this "
        "request is answered.",
    )
    hub: Annotated[str, Field(max_length=128, pattern=r"^[\w-][\w.-]*/[\w-][\w.-]*$", examples=["org/name"])] | None = (
        Field(default=None, description="A repository of the hub; needs `TAILOR_HUB=on`.")
    )
    revision: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[\w./-]+$", examples=["main"])] | None = (
        Field(default=None, description="Branch, tag or commit of `hub`; the commit is kept in `source`.")
    )
    name: Annotated[str, Field(pattern=NAME, examples=["my-bert"])] | None = Field(
        default=None,
        description="The model's id becomes `@<project>/<name>`. Needed with `file`; the repository's name for `hub`.",
    )

    @model_validator(mode="after")
    def _comes_from_one_place(self) -> Self:
        if (self.file is None) == (self.hub is None):
            found = "neither" if self.file is None else "both"
            raise ValueError(f"give either file (an uploaded archive) or hub (a repository); the body has {found}")
        if self.file is not None and self.name is None:
            raise ValueError("name is missing; give the model a name, such as 'my-bert'")
        if self.file is not None and self.revision is not None:
            raise ValueError("revision belongs to hub; leave it out with file")
        if self._name in RESERVED or not re.fullmatch(NAME, self._name):
            raise ValueError(f"the model cannot be named {self._name!r}, since {RULE}; give another name")
        return self

    @property
    def _name(self) -> str:
        return self.name or (self.hub or "").partition("/")[2]

    def to_new_model(self) -> NewModel:
        """The model for the service."""
        return NewModel(name=self._name, file=self.file, hub=self.hub, revision=self.revision)


class TrainedElsewhere(ResponseModel):
    """How a model was trained that Tailor made and that was registered again; evaluations ask it in this way."""

    task: dict[str, Any] = Field(description="The task's options, `type` included.")
    labels: list[str] | None = Field(description="In the order of their ids.")
    seed: int
    max_length: int = Field(description="Window in tokens.")
    precision: Literal["fp32", "bf16", "fp16"]


class ModelSource(ResponseModel):
    """Where a registered model came from."""

    file: str | None = Field(description="The uploaded archive; it may have been deleted since.")
    filename: str | None
    sha256: str | None = Field(description="Of the archive.")
    hub: str | None = Field(description="The hub's repository.")
    revision: str | None = Field(description="Of the repository: the commit, once it is known.")
    left_out: list[str] = Field(
        default=[], description="What the archive held beside the model; folders end with a slash."
    )
    rewritten: list[str] = Field(
        default=[],
        description="Python files that Tailor writes into its own models. Those of the archive were put aside, never "
        "run, and this installation's took their place.",
    )
    trained: TrainedElsewhere | None = Field(
        default=None, description="How Tailor trained the model, as its manifest says; null for other models."
    )


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
                    "status": "ready",
                    "family": "bert",
                    "tasks": ["text-classification"],
                    "task": "text-classification",
                    "labels": ["negative", "positive"],
                    "parent": "starter/minilm-l6",
                    "job": JOB_ID,
                    "metrics": {"accuracy": 0.91},
                    "bytes": 91_000_000,
                    "max_length": 512,
                    "problem": None,
                    "source": None,
                },
                {
                    "id": REGISTERED_ID,
                    "object": "model",
                    "created": 1767225660,
                    "owned_by": "proj-5f0c2d1e9ab4c7d8e6f1a2b3c4d5e6",
                    "kind": "base",
                    "status": "processing",
                    "family": None,
                    "tasks": None,
                    "task": None,
                    "labels": None,
                    "parent": None,
                    "job": None,
                    "metrics": None,
                    "bytes": 0,
                    "max_length": None,
                    "problem": None,
                    "source": {
                        "file": FILE_ID,
                        "filename": "my-bert.tar.gz",
                        "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                        "hub": None,
                        "revision": None,
                        "left_out": [],
                        "rewritten": [],
                        "trained": None,
                    },
                },
            ]
        }
    )

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="Unix seconds.")
    owned_by: str = Field(description="The project, or `tailor` for base models that all projects share.")
    kind: Literal["base", "fine_tuned", "checkpoint"]
    status: Literal["processing", "ready", "error"] = Field(
        description="`processing`: a registered model that is still being checked; `error`: `problem` says why it "
        "cannot be used."
    )
    family: str | None = Field(description="Transformers' model type.")
    tasks: list[str] | None = Field(
        description="Tasks that it can be fine-tuned for; null while its family is not known."
    )
    task: str | None = Field(description="The task that it was fine-tuned for, here or by another Tailor.")
    labels: list[str] | None
    parent: str | None = Field(description="The model it was made from.")
    job: str | None = Field(description="The job that made it.")
    metrics: dict[str, Any] | None
    bytes: int
    max_length: int | None = Field(description="Window in tokens.")
    problem: str | None = Field(description="Why a base model cannot be used, and how to mend it.")
    source: ModelSource | None = Field(description="Where a model that the project registered came from.")

    @classmethod
    def of(cls, model: Model) -> "ModelObject":
        """The object of a row."""
        return cls.model_validate(
            {
                "id": model.id,
                "created": seconds(model.created_at),
                "owned_by": model.project_id or "tailor",
                "kind": model.kind,
                "status": model.status,
                "family": model.family,
                "tasks": fitting_tasks(model),
                "task": model.task,
                "labels": model.labels,
                "parent": model.parent,
                "job": model.job_id,
                "metrics": model.metrics,
                "bytes": model.bytes,
                "max_length": model.max_length,
                "problem": model.problem,
                "source": model.source,
            }
        )


class ModelList(ResponseModel):
    """All base models, and those that the project registered or made. Never in pages."""

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
