"""`/v1/uploads`: a file that comes in parts, each of which may be sent again alone."""

import dataclasses
from functools import partial
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool

from app.api.deps import Access, AccessDep
from app.api.idempotency import Once, OnceDep
from app.api.received_files import receiving
from app.api.schemas.base import errors
from app.api.schemas.uploads import (
    PartList,
    PartListQuery,
    PartObject,
    UploadComplete,
    UploadCreate,
    UploadObject,
    part_form,
)
from app.errors import AppError
from app.files import completion, uploads
from app.files.completion import Completion
from app.files.limits import SizeLimit
from app.queue import CONTROL_QUEUE
from app.storage.blobs import BlobRef

router = APIRouter(prefix="/v1/uploads", tags=["Uploads"])


@router.post("", responses=errors(409, 413, 422), summary="Begin an upload in parts")
def create_upload(body: UploadCreate, access: AccessDep, once: OnceDep) -> UploadObject:
    """Announce a file. Then send its parts, in any order and at once if you like, and complete the upload."""
    with access.transaction() as (session, caller):

        def act() -> UploadObject:
            return UploadObject.of(uploads.create(session, caller, body.to_new_upload(), access.state.settings))

        return once.answer(session, caller, body.model_dump(mode="json"), UploadObject, act)


@router.get("/{upload_id}", responses=errors(404), summary="Retrieve an upload")
def retrieve_upload(upload_id: str, access: AccessDep) -> UploadObject:
    """An upload with its status, and the file once it is completed."""
    with access.read() as (session, caller):
        upload = uploads.get(session, caller, upload_id)
        return UploadObject.of(upload, uploads.file_of(session, upload))


@router.get("/{upload_id}/parts", responses=errors(404), summary="List an upload's parts")
def list_parts(upload_id: str, access: AccessDep, query: Annotated[PartListQuery, Query()]) -> PartList:
    """Parts that have arrived whole, in the order of their arrival: what is not here has to be sent again.

    An upload that has ended has none: they have become the file or are gone.
    """
    with access.read() as (session, caller):
        return PartList.of(*uploads.page_of_parts(session, caller, upload_id, after=query.after, limit=query.limit))


@router.post(
    "/{upload_id}/parts", responses=errors(404, 409, 413, 422), openapi_extra=part_form(), summary="Add a part"
)
async def add_part(upload_id: str, request: Request, access: AccessDep, once: OnceDep) -> PartObject:
    """Store some bytes of the file, up to 64 MiB. A part that was sent twice is simply not named when completing."""
    limit = await run_in_threadpool(_part_limit, access, upload_id)  # before the bytes, which may take long
    async with receiving(request, access.state.blobs, "data", limit) as received:
        for name in received.form:
            message = f"Unknown form field {name!r}; a part is one file named 'data' and nothing else."
            raise AppError(400, "unknown_field", message, name, {"allowed": ["data"]})
        if received.size == 0:
            raise AppError(400, "empty_part", "The part is empty: 0 bytes were received.", "data")
        blob = await received.finish()
    return await run_in_threadpool(_add_part, access, once, upload_id, blob)


def _part_limit(access: Access, upload_id: str) -> SizeLimit:
    with access.read() as (session, caller):
        return uploads.part_limit(session, uploads.get_pending(session, caller, upload_id))


def _add_part(access: Access, once: Once, upload_id: str, blob: BlobRef) -> PartObject:
    # The SDK's silent retries are parts of their own: equal bytes may stand in a file twice, and a part that is not
    # named when completing does no harm. A key says that it is the same part.
    once = dataclasses.replace(once, retry=None)
    with access.transaction() as (session, caller):

        def act() -> PartObject:
            return PartObject.of(uploads.add_part(session, caller, upload_id, blob))

        return once.answer(session, caller, blob.sha256, PartObject, act)


@router.post("/{upload_id}/complete", responses=errors(404, 409, 413, 422), summary="Complete an upload")
async def complete_upload(upload_id: str, body: UploadComplete, access: AccessDep) -> UploadObject:
    """Make the file of the named parts. Asking twice is asking once; what is refused leaves the upload pending.

    It takes a few seconds per GiB: every byte is read once for the file's SHA-256.
    """
    wanted, state = body.to_completion(), access.state
    parts = await run_in_threadpool(_begin, access, upload_id, wanted)
    blob = None
    if parts:
        assemble = partial(completion.assemble, state.sessions, state.blobs, upload_id, parts, wanted)
        blob = await to_thread.run_sync(assemble, limiter=state.assemblies)
    return await run_in_threadpool(_publish, access, upload_id, wanted, blob)


def _begin(access: Access, upload_id: str, wanted: Completion) -> list[BlobRef]:
    with access.transaction() as (session, caller):
        return completion.begin(session, caller, upload_id, wanted)


def _publish(access: Access, upload_id: str, wanted: Completion, blob: BlobRef | None) -> UploadObject:
    with access.transaction() as (session, caller):
        upload, made = completion.publish(session, caller, upload_id, wanted, blob, access.state.settings)
        if made:
            access.wake_after_commit(session, CONTROL_QUEUE)
        return UploadObject.of(upload, uploads.file_of(session, upload))


@router.post("/{upload_id}/cancel", responses=errors(404, 409), summary="Cancel an upload")
def cancel_upload(upload_id: str, access: AccessDep) -> UploadObject:
    """End an upload and let go of its parts, also while it is being completed. Asking twice is asking once."""
    with access.transaction() as (session, caller):
        return UploadObject.of(uploads.cancel(session, caller, upload_id))
