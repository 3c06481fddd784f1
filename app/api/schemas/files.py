"""Files, their lists and their preparation reports."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from app.api.schemas.base import Derived, Object, RequestModel, ResponseModel, one_of, optional_seconds, seconds
from app.catalog.tasks import TASKS
from app.tables import File, Preparation

FILE_ID = "file-5f0c2d1e9ab4c7d8e6f1a2b3c4d5e6"
EXAMPLE: Object = {
    "id": FILE_ID,
    "object": "file",
    "bytes": 48213,
    "created_at": 1767225600,
    "expires_at": None,
    "filename": "train.jsonl",
    "purpose": "fine-tune",
    "status": "processed",
    "status_details": None,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "task": "text-classification",
    "columns": {},
}

Purpose = Literal["fine-tune", "batch", "user_data", "evals"]
AnyPurpose = Literal["fine-tune", "batch", "user_data", "evals", "fine-tune-results"]
Columns = Annotated[
    dict[str, Annotated[str, Field(min_length=1, max_length=256)]],
    Field(description='Column of the file for each field of the task, such as `{"text": "review"}`.'),
]


class ExpiresAfter(RequestModel):
    """When a file deletes itself."""

    anchor: Literal["created_at"] = Field(description="What `seconds` counts from.")
    seconds: int = Field(ge=3600, le=2_592_000, description="One hour to thirty days.")


class FileFields(RequestModel):
    """The form fields of an upload beside `file`."""

    purpose: Purpose = Field(
        description="What the file is for. `fine-tune`: data, which is prepared and checked at once."
    )
    task: Annotated[str | None, Derived(one_of(TASKS) | None)] = Field(
        default=None, description="Task to read the file as. Left out: told from the file where there is no doubt."
    )
    columns: Columns | None = None
    expires_after: ExpiresAfter | None = Field(default=None, description="Delete the file some time after its upload.")


class FileListQuery(RequestModel):
    """Which files, and how many."""

    purpose: AnyPurpose | None = Field(default=None, description="Only files of this purpose.")
    limit: int = Field(default=10_000, ge=1, le=10_000, description="Length of a page.")
    after: str | None = Field(default=None, description="Cursor: the last id of the page before.")
    order: Literal["asc", "desc"] = Field(default="desc", description="By time of upload.")


class FileObject(ResponseModel):
    """An uploaded or produced file."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: str
    object: Literal["file"] = "file"
    bytes: int = Field(description="Size.")
    created_at: int = Field(description="Unix seconds.")
    expires_at: int | None = Field(description="Unix seconds; null: it stays until it is deleted.")
    filename: str
    purpose: AnyPurpose
    status: Literal["uploaded", "processed", "error"] = Field(
        description="`uploaded`: being prepared; `processed`: ready; `error`: see `status_details`."
    )
    status_details: str | None = Field(description="Why the preparation failed, with line and field.")
    sha256: str = Field(description="SHA-256 of the content, hexadecimal.")
    task: str | None = Field(description="Task given at the upload.")
    columns: dict[str, str] = Field(description="Columns given at the upload.")

    @classmethod
    def of(cls, file: File) -> "FileObject":
        """The object of a row."""
        return cls.model_validate(
            {
                "id": file.id,
                "bytes": file.bytes,
                "created_at": seconds(file.created_at),
                "expires_at": optional_seconds(file.expires_at),
                "filename": file.filename,
                "purpose": file.purpose,
                "status": file.status,
                "status_details": file.status_details,
                "sha256": file.sha256,
                "task": file.task,
                "columns": file.columns,
            }
        )


class FileList(ResponseModel):
    """A page of files."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def of(cls, files: list[File], has_more: bool) -> "FileList":
        """The page of rows."""
        data = [FileObject.of(file) for file in files]
        first_id, last_id = (data[0].id, data[-1].id) if data else (None, None)
        return cls(data=data, first_id=first_id, last_id=last_id, has_more=has_more)


class FileReport(ResponseModel):
    """What preparing the file found: rows, labels, lengths in tokens, duplicates, problems with line and fix."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "object": "file.report",
                    "file_id": FILE_ID,
                    "status": "processed",
                    "task": "text-classification",
                    "columns": {},
                    "model": "starter/minilm-l6",
                    "report": {
                        "task": "text-classification",
                        "options": {"problem_type": "single_label_classification"},
                        "rows": 500,
                        "labels": {"negative": 251, "positive": 249},
                    },
                    "error": None,
                }
            ]
        }
    )

    object: Literal["file.report"] = "file.report"
    file_id: str
    status: Literal["pending", "processed", "error"]
    task: str | None = Field(description="Asked for, or told from the file; null until it is told.")
    columns: dict[str, str]
    model: str | None = Field(description="The model whose tokens lengths are counted in.")
    report: dict[str, Any] | None
    error: dict[str, Any] | None = Field(description="`{code, message, param, data}` where the status is `error`.")

    @classmethod
    def of(cls, file_id: str, preparation: Preparation) -> "FileReport":
        """The report of a row."""
        return cls.model_validate(
            {
                "file_id": file_id,
                "status": preparation.status,
                "task": preparation.task or (preparation.report or {}).get("task"),
                "columns": preparation.columns,
                "model": preparation.model,
                "report": preparation.report,
                "error": preparation.error,
            }
        )
