"""`/v1/models`. Ids contain `:` and `/`, so paths are matched greedily and the longer ones come first."""

import re
from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.byte_ranges import Download, content_hash_headers, serve
from app.api.deps import AccessDep
from app.api.idempotency import OnceDep
from app.api.schemas.base import Deleted, errors, seconds
from app.api.schemas.models import ModelCreate, ModelFile, ModelFileList, ModelList, ModelObject
from app.errors import AppError
from app.jobs import registrations, service
from app.queue import CONTROL_QUEUE
from app.registry import archive, models
from app.tables import Model

router = APIRouter(prefix="/v1/models", tags=["Models"])

BYTES = errors(404, 416)


@router.post("", responses=errors(409, 413, 422), summary="Register a base model")
def register_model(body: ModelCreate, access: AccessDep, once: OnceDep) -> ModelObject:
    """Make a base model of an uploaded archive, or of a repository of the hub where that is allowed.

    The answer comes at once, with `status: "processing"`; poll `GET /v1/models/{model}` until it is `ready`, or `error`
    with the reason in `problem`. A registration that failed may be repeated under the same name.

    Weights are read from safetensors alone. Pickles, code, links and paths that leave the archive are refused by name.
    A model that a Tailor made comes back whole: its own Python files are put in anew, and evaluations ask it as it was
    trained.
    """
    with access.transaction() as (session, caller):

        def act() -> ModelObject:
            model = registrations.create(session, caller, body.to_new_model(), access.state.settings)
            access.wake_after_commit(session, CONTROL_QUEUE)
            return ModelObject.of(model)

        return once.answer(session, caller, body.model_dump(mode="json"), ModelObject, act)


@router.get("", responses=errors(), summary="List models")
def list_models(access: AccessDep) -> ModelList:
    """Base models, and those that the project registered or made. Checkpoints are listed with their job."""
    with access.read() as (session, caller):
        return ModelList(data=[ModelObject.of(model) for model in models.list_all(session, caller.project_id)])


@router.get("/{model:path}/files", responses=errors(404), summary="List a model's files")
def list_model_files(model: str, access: AccessDep) -> ModelFileList:
    """The model's directory with sizes and hashes. Empty for a base model that lies on the workers' disks."""
    with access.read() as (session, caller):
        found = models.get(session, caller.project_id, model)
        return ModelFileList(data=[ModelFile.of(file) for file in models.files(session, found.id)])


@router.get(
    "/{model:path}/files/{path:path}",
    responses=BYTES | {200: {"content": {"application/octet-stream": {}}}},
    response_class=Response,
    summary="Download a model's file",
)
@router.head("/{model:path}/files/{path:path}", include_in_schema=False)
def model_file(model: str, path: str, request: Request, access: AccessDep) -> Response:
    """One file, whole or a `Range`; `ETag` is its SHA-256."""
    with access.read() as (session, caller):
        found = models.get(session, caller.project_id, model)
        file = models.get_file(session, found.id, path)
    read = partial(access.state.blobs.read, file.blob_id)
    headers = content_hash_headers(file.sha256)
    return serve(request, Download(path.rpartition("/")[2], file.bytes, file.sha256, read, headers=headers))


@router.get(
    "/{model:path}/archive",
    responses=BYTES | {200: {"content": {"application/x-tar": {}}}},
    response_class=Response,
    summary="Download a model",
)
@router.head("/{model:path}/archive", include_in_schema=False)
def model_archive(model: str, request: Request, access: AccessDep) -> Response:
    """All files in one tar, at its root: `mkdir m && tar -xf model.tar -C m`. The same bytes each time.

    `Range` works, so a broken download goes on where it stopped. `ETag` follows from the files' hashes, which
    `/files` lists; the archive has no hash of its own, since nothing reads it before it is sent.
    """
    with access.read() as (session, caller):
        found = models.get(session, caller.project_id, model)
        files = models.files(session, found.id)
    if not files:
        raise _has_no_files(found)
    modified_at = seconds(found.created_at)
    parts = archive.segments(files, modified_at)
    read = partial(archive.read, parts, access.state.blobs)
    name = re.sub("[/:]", "-", found.id) + ".tar"
    etag = archive.fingerprint(files, modified_at)
    return serve(request, Download(name, sum(part.size for part in parts), etag, read, "application/x-tar"))


def _has_no_files(model: Model) -> AppError:
    where = {
        "processing": "is still being checked",
        "error": f"cannot be used: {model.problem}",
        "ready": "is a base model on the workers' disks; only models that a project registered or made have files",
    }
    return AppError(404, "model_has_no_files", f"Model {model.id!r} {where[model.status]}.", "model")


@router.get("/{model:path}", responses=errors(404), summary="Retrieve a model")
def retrieve_model(model: str, access: AccessDep) -> ModelObject:
    """What is known of a model: task, labels, parent, the job that made it, its results."""
    with access.read() as (session, caller):
        return ModelObject.of(models.get(session, caller.project_id, model))


@router.delete("/{model:path}", responses=errors(403, 404, 409), summary="Delete a model")
def delete_model(model: str, access: AccessDep) -> Deleted:
    """Delete a model that the project registered or made, and its files. 403 for a base model that all projects share.

    409 while an unfinished job needs it. The id of a model that jobs have used is not given again.
    """
    with access.transaction() as (session, caller):
        service.delete_model(session, caller, model)
    return Deleted(id=model, object="model")
