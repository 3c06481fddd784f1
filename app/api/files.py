"""`/v1/files`."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import Response

from app.api.byte_ranges import Download, content_hash_headers, serve
from app.api.deps import Access, AccessDep
from app.api.file_forms import receive_file
from app.api.idempotency import Once, OnceDep
from app.api.schemas.base import Deleted, errors
from app.api.schemas.files import FileFields, FileList, FileListQuery, FileObject, FileReport
from app.errors import AppError
from app.files import service
from app.files.limits import file_limit
from app.files.service import NewFile
from app.queue import CONTROL_QUEUE

router = APIRouter(prefix="/v1/files", tags=["Files"])


def _upload_form() -> dict[str, Any]:
    """The multipart body for OpenAPI: endpoints that read their own stream have to say what they take."""
    schema = FileFields.model_json_schema(ref_template="#/components/schemas/{model}")
    definitions = schema.pop("$defs", {})
    schema["properties"] = {
        "file": {"type": "string", "format": "binary", "description": "The file, as a part with a filename."},
        **schema["properties"],
        "expires_after": definitions["ExpiresAfter"],
    }
    schema["required"] = ["file", *schema["required"]]
    schema["properties"]["columns"] |= {"examples": ['{"text": "review", "label": "sentiment"}']}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


@router.post("", responses=errors(409, 413, 422), openapi_extra=_upload_form(), summary="Upload a file")
async def upload_file(request: Request, access: AccessDep, once: OnceDep) -> FileObject:
    """Store a file. One with purpose `fine-tune` is prepared at once: watch `status`, then read its report."""
    await run_in_threadpool(access.authenticate)  # before the bytes, which may take an hour
    new = await receive_file(request, access.state.blobs, file_limit(access.state.settings.max_file_bytes))
    return await run_in_threadpool(_create, access, once, new)


def _create(access: Access, once: Once, new: NewFile) -> FileObject:
    same = [new.filename, new.purpose, new.task, sorted(new.columns.items()), new.expires_after, new.blob.sha256]
    with access.transaction() as (session, caller):

        def act() -> FileObject:
            file = service.create(session, caller, new, access.state.settings)
            access.wake_after_commit(session, CONTROL_QUEUE)
            return FileObject.of(file)

        return once.answer(session, caller, same, FileObject, act)


@router.get("", responses=errors(404), summary="List files")
def list_files(access: AccessDep, query: Annotated[FileListQuery, Query()]) -> FileList:
    """The project's files in pages, newest first unless asked otherwise."""
    with access.read() as (session, caller):
        rows, has_more = service.page(
            session,
            caller,
            after=query.after,
            limit=query.limit,
            purpose=query.purpose,
            newest_first=query.order == "desc",
        )
    return FileList.of(rows, has_more)


@router.get("/{file_id}", responses=errors(404), summary="Retrieve a file")
def retrieve_file(file_id: str, access: AccessDep) -> FileObject:
    """What is known of a file; `status` tells whether it has been prepared."""
    with access.read() as (session, caller):
        return FileObject.of(service.get_file(session, caller.project_id, file_id))


@router.delete("/{file_id}", responses=errors(404, 409), summary="Delete a file")
def delete_file(file_id: str, access: AccessDep) -> Deleted:
    """Delete a file and all that was read from it. 409 while an unfinished job needs it."""
    with access.transaction() as (session, caller):
        return Deleted(id=service.delete(session, caller, file_id).id, object="file")


@router.get(
    "/{file_id}/content",
    responses=errors(404, 416) | {200: {"content": {"application/octet-stream": {}}}},
    response_class=Response,
    summary="Download a file",
)
@router.head("/{file_id}/content", include_in_schema=False)
def file_content(file_id: str, request: Request, access: AccessDep) -> Response:
    """The bytes as they were uploaded, whole or a `Range`; `ETag` is their SHA-256."""
    with access.read() as (session, caller):
        file, blob_id = service.content(session, caller, file_id)
    read = partial(access.state.blobs.read, blob_id)
    headers = content_hash_headers(file.sha256)
    return serve(request, Download(file.filename, file.bytes, file.sha256, read, headers=headers))


@router.get("/{file_id}/report", responses=errors(404), summary="Read a file's preparation report")
def file_report(
    file_id: str,
    access: AccessDep,
    job: Annotated[str | None, Query(description="The reading that this job trains on, not the upload's.")] = None,
) -> FileReport:
    """Rows, labels, lengths in tokens, duplicates, and every problem with its line, column, code and fix."""
    with access.read() as (session, caller):
        preparation = service.report(session, caller, file_id, job_id=job)
    if preparation is None:
        message = f"File {file_id} was not prepared: only files with purpose 'fine-tune' or in a job are."
        raise AppError(404, "report_not_found", message)
    return FileReport.of(file_id, preparation)
