"""Registrations: a base model that a project brings, from the request to a model that jobs can start from.

The model's row is there at once and is `processing`; a control worker's child checks what it is made of. Its files are
named in the transaction that ends the job, so that a crash at any moment leaves a whole model or none.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.errors import AppError, not_found
from app.files.lookup import get_file
from app.jobs import events
from app.jobs.events import Event
from app.projects import Caller
from app.registry import models
from app.registry.models import PublishedFile
from app.settings import Settings
from app.storage.blobs import BlobRef
from app.tables import Job, Model, StoredFile, new_id

ARCHIVE = "archive"  # path of the stored file that keeps the uploaded bytes for the job, whatever becomes of the file


@dataclass(frozen=True)
class NewModel:
    """A model to be registered under `name`: from an uploaded file, or from a hub repository at a revision."""

    name: str
    file: str | None = None
    hub: str | None = None
    revision: str | None = None


def create(session: Session, caller: Caller, new: NewModel, settings: Settings) -> Model:
    """Write the model and the job that checks it.

    Raises AppError 400 for a file that does not exist and a hub that may not be asked, 409 for a name that is taken.
    """
    if new.hub is not None and settings.hub != "on":
        message = (
            f"hub is {new.hub!r}, and this installation asks no hub (TAILOR_HUB=off). Set TAILOR_HUB=on, or upload an "
            "archive of the model's directory and give its id as `file`."
        )
        raise AppError(400, "hub_is_off", message, "hub")
    source, archive = _source(session, caller, new)
    model = _take_name(session, caller, new.name, source)
    job = Job(
        id=new_id("regjob"),
        project_id=caller.project_id,
        kind="registration",
        queue="control",
        status="queued",
        model=model.id,
        spec={"source": source},
        max_attempts=settings.max_attempts,
    )
    session.add(job)
    session.flush()
    if archive is not None:
        models.store_files(session, job.id, [PublishedFile(ARCHIVE, archive)])
    events.append(session, job.id, [Event(f"Registering {model.id} from {source['file'] or source['hub']}")])
    return model


def _source(session: Session, caller: Caller, new: NewModel) -> tuple[dict[str, Any], BlobRef | None]:
    source: dict[str, Any] = dict.fromkeys(("file", "filename", "sha256", "hub", "revision"))
    if new.file is None:
        return source | {"hub": new.hub, "revision": new.revision}, None
    file = get_file(session, caller.project_id, new.file, param="file", status=400, lock=True)
    if file.blob_id is None:
        raise not_found("file", new.file, "file")
    blob = BlobRef(file.blob_id, file.bytes, file.sha256)
    return source | {"file": file.id, "filename": file.filename, "sha256": file.sha256}, blob


def _take_name(session: Session, caller: Caller, name: str, source: dict[str, Any]) -> Model:
    """A new model of this name, or the one whose registration failed once more."""
    id_ = models.registered_id(caller.project, name)
    values = {"project_id": caller.project_id, "kind": "base", "status": "processing", "bytes": 0, "source": source}
    made = session.scalar(insert(Model).values(id=id_, **values).on_conflict_do_nothing().returning(Model))
    if made is not None:
        return made
    found = session.scalar(select(Model).where(Model.id == id_).with_for_update())
    if found is None:  # deleted between the two statements
        return _take_name(session, caller, name, source)
    if found.deleted_at is not None or found.status != "error":
        raise _taken(found)
    withdraw(session, caller.project_id, id_)
    found.status, found.problem, found.source, found.created_at = "processing", None, source, func.now()
    session.flush()
    session.refresh(found)
    return found


def _taken(model: Model) -> AppError:
    if model.deleted_at is not None:
        message = (
            f"There was a model {model.id!r}, and jobs have used it: an id means the same weights for ever. "
            "Give another name."
        )
    else:
        message = f"Model {model.id!r} exists already. Give another name, or delete it first."
    return AppError(409, "model_exists", message, "name")


def succeed(session: Session, job: Job, facts: dict[str, Any], files: list[PublishedFile]) -> None:
    """Make the model usable: its files, and what was found.

    That is `family`, `max_length`, `left_out`, a hub's `revision`; of a model that Tailor made `rewritten`, `trained`.
    """
    assert job.model is not None
    models.store_files(session, job.model, files)
    source = {name: facts[name] for name in ("left_out", "revision", "rewritten", "trained") if name in facts}
    trained = facts.get("trained")
    session.execute(
        update(Model)
        .where(Model.id == job.model)
        .values(
            status="ready",
            family=facts["family"],
            task=trained["task"]["type"] if trained else None,
            labels=trained["labels"] if trained else None,
            max_length=facts["max_length"],
            bytes=sum(file.blob.bytes for file in files),
            source=job.spec["source"] | source,
        )
    )
    models.remove_bytes(session, job.id)


def settle_ended(session: Session, jobs: list[Job]) -> None:
    """Registrations that ended without a model (refused, worker lost) leave the reason with it."""
    for job in jobs:
        if job.kind == "registration" and job.status in ("failed", "cancelled"):
            problem = job.error["message"] if job.error else "its registration was cancelled"
            session.execute(update(Model).where(Model.id == job.model).values(status="error", problem=problem))
            models.remove_bytes(session, job.id)


def withdraw(session: Session, project_id: str, model_id: str) -> None:
    """Forget the registration of a model; a worker that is at it finds its lease gone."""
    gone = session.scalars(
        delete(Job)
        .where(Job.project_id == project_id, Job.kind == "registration", Job.model == model_id)
        .returning(Job.id)
    ).all()
    session.execute(delete(StoredFile).where(StoredFile.owner_id.in_(gone)))
