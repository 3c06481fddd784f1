"""Uploads in parts, and the parts."""

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StrictInt

from app.api.received_files import base_name
from app.api.schemas.base import Derived, Object, RequestModel, ResponseModel, one_of, seconds
from app.api.schemas.files import EXAMPLE as FILE
from app.api.schemas.files import Columns, ExpiresAfter, FileObject, Purpose
from app.catalog.tasks import TASKS
from app.files.completion import Completion
from app.files.uploads import MAX_PARTS, NewUpload, status_of
from app.tables import File, Upload, UploadPart

UPLOAD_ID = "upload-7d1e5c9b30a84f62b7c8d9e0f1a2b3"
PART_IDS = ["part-0a1b2c3d4e5f60718293a4b5c6d7e8", "part-f9e8d7c6b5a493827160f5e4d3c2b1"]
MINIMAL: Object = {"bytes": 134_217_728, "filename": "train.jsonl", "purpose": "fine-tune"}
FULL: Object = MINIMAL | {
    "mime_type": "text/jsonl",
    "task": "text-classification",
    "columns": {"text": "review", "label": "sentiment"},
    "expires_after": {"anchor": "created_at", "seconds": 86_400},
}
COMPLETE: Object = {"part_ids": PART_IDS, "md5": "9e107d9d372bb6826bd81d3542a419d6"}
PENDING: Object = {
    "id": UPLOAD_ID,
    "object": "upload",
    "bytes": 134_217_728,
    "created_at": 1767225600,
    "expires_at": 1767229200,
    "filename": "train.jsonl",
    "purpose": "fine-tune",
    "status": "pending",
    "task": None,
    "columns": {},
    "file": None,
}
PART: Object = {
    "id": PART_IDS[0],
    "object": "upload.part",
    "created_at": 1767225601,
    "upload_id": UPLOAD_ID,
    "bytes": 67_108_864,
    "sha256": "3b6a07d0d404fab4e23b6d34bc6696a6a312dd92821332385e5af7c01c421351",
}


class UploadCreate(RequestModel):
    """A file that will come in parts."""

    model_config = ConfigDict(json_schema_extra={"examples": [MINIMAL, FULL]})

    bytes: Annotated[StrictInt, Field(ge=1, description="Size of the whole file.")]
    filename: str = Field(min_length=1, max_length=1024, description="Name of the file.")
    mime_type: str | None = Field(
        default=None, max_length=255, description="For OpenAI's clients; what a file is, is read from its content."
    )
    purpose: Purpose = Field(
        description="What the file is for. `fine-tune`: data, which is prepared and checked once it is complete."
    )
    task: Annotated[str | None, Derived(one_of(TASKS) | None)] = Field(
        default=None, description="Task to read the file as."
    )
    columns: Columns | None = None
    expires_after: ExpiresAfter | None = Field(
        default=None, description="Delete the file some time after the upload is completed."
    )

    def to_new_upload(self) -> NewUpload:
        """The upload for the service, in flat, typed values."""
        return NewUpload(
            filename=base_name(self.filename),
            purpose=self.purpose,
            bytes=self.bytes,
            task=self.task,
            columns=self.columns or {},
            file_expires_after=timedelta(seconds=self.expires_after.seconds) if self.expires_after else None,
        )


class UploadComplete(RequestModel):
    """The parts that make the file."""

    model_config = ConfigDict(json_schema_extra={"examples": [COMPLETE]})

    part_ids: list[Annotated[str, Field(pattern=r"^part-[0-9a-f]{1,64}$", examples=PART_IDS)]] = Field(
        min_length=1, max_length=MAX_PARTS, description="Ids of parts in the order of their bytes in the file."
    )
    md5: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{32}$", examples=[COMPLETE["md5"]])] | None = Field(
        default=None, description="MD5 of the whole file, hexadecimal: other bytes are refused."
    )

    def to_completion(self) -> Completion:
        """What is asked of the service."""
        return Completion(list(self.part_ids), self.md5.lower() if self.md5 else None)


class UploadObject(ResponseModel):
    """A file that comes in parts."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [PENDING, PENDING | {"status": "completed", "file": FILE}]}
    )

    id: str
    object: Literal["upload"] = "upload"
    bytes: int = Field(description="Size of the whole file, as announced.")
    created_at: int = Field(description="Unix seconds.")
    expires_at: int = Field(description="Unix seconds; an upload that is not completed by then is gone.")
    filename: str
    purpose: Purpose
    status: Literal["pending", "completed", "cancelled", "expired"] = Field(description="Only `pending` takes parts.")
    task: str | None = Field(description="Task to read the file as.")
    columns: dict[str, str] = Field(description="Column of the file for each field of the task.")
    file: FileObject | None = Field(description="The file, once the upload is completed; null if it was deleted since.")

    @classmethod
    def of(cls, upload: Upload, file: File | None = None) -> "UploadObject":
        """The object of a row and of the file it has become."""
        return cls.model_validate(
            {
                "id": upload.id,
                "bytes": upload.bytes,
                "created_at": seconds(upload.created_at),
                "expires_at": seconds(upload.expires_at),
                "filename": upload.filename,
                "purpose": upload.purpose,
                "status": status_of(upload),
                "task": upload.task,
                "columns": upload.columns,
                "file": FileObject.of(file) if file else None,
            }
        )


class PartListQuery(RequestModel):
    """A page of parts."""

    limit: int = Field(default=1000, ge=1, le=MAX_PARTS, description="Length of a page.")
    after: str | None = Field(default=None, description="Cursor: the last id of the page before.")


class PartObject(ResponseModel):
    """Some bytes of an upload."""

    model_config = ConfigDict(json_schema_extra={"examples": [PART]})

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int = Field(description="Unix seconds.")
    upload_id: str
    bytes: int = Field(description="Size.")
    sha256: str = Field(description="SHA-256 of the part, hexadecimal: tells which bytes of the file it holds.")

    @classmethod
    def of(cls, part: UploadPart) -> "PartObject":
        """The object of a row."""
        return cls(
            id=part.id,
            created_at=seconds(part.created_at),
            upload_id=part.upload_id,
            bytes=part.bytes,
            sha256=part.sha256,
        )


class PartList(ResponseModel):
    """A page of parts."""

    object: Literal["list"] = "list"
    data: list[PartObject]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def of(cls, parts: list[UploadPart], has_more: bool) -> "PartList":
        """The page of rows."""
        data = [PartObject.of(part) for part in parts]
        first_id, last_id = (data[0].id, data[-1].id) if data else (None, None)
        return cls(data=data, first_id=first_id, last_id=last_id, has_more=has_more)


def part_form() -> dict[str, Any]:
    """The multipart body for OpenAPI: endpoints that read their own stream have to say what they take."""
    data = {"type": "string", "format": "binary", "description": "The bytes, as a part with a filename: up to 64 MiB."}
    schema = {"type": "object", "properties": {"data": data}, "required": ["data"], "additionalProperties": False}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
