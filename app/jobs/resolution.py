"""What a job left open of its task, taken from its training file once that is prepared."""

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.catalog.tasks import TASKS
from app.jobs import events, preparations
from app.jobs.events import Event
from app.jobs.leases import JobError
from app.jobs.preparations import Reading
from app.registry import models
from app.tables import File, Job, Model, Preparation


@dataclass
class PreparedFile:
    """A file of a job, its preparation, and the job field that names it."""

    param: str
    file: File
    preparation: Preparation

    @property
    def noun(self) -> str:
        """What messages call it."""
        return self.param.replace("_", " ")


def resolve(session: Session, job: Job, files: list[PreparedFile]) -> JobError | None:
    """Complete `job.spec["task"]` by what the training file holds, and have the other files read in the same way.

    Afterwards a preparation of `files` may be pending. Returns why the job cannot be done as what the file holds.
    """
    report = files[0].preparation.report or {}
    asked: dict[str, Any] = job.spec["task"]
    name: str = report["task"]
    spec = TASKS[name]
    try:
        task = spec.options.model_validate(asked | report["options"] | {"type": name}).model_dump(mode="json")
    except ValidationError as error:
        option = ".".join(map(str, error.errors()[0]["loc"]))
        message = (
            f"The {files[0].noun} {files[0].file.id} ({files[0].file.filename}) holds {name} data with "
            f"{report['options']}, which jobs cannot be asked for here: {error.errors()[0]['msg']}."
        )
        return JobError("variant_not_supported", message, f"task.{option}")
    base = session.get(Model, job.model)
    problem = models.misfit(base, name) if base is not None else None
    if problem is not None:
        return JobError("model_does_not_fit_task", problem, "model", {"allowed": models.model_types(name)})
    if task != asked:
        job.spec = job.spec | {"task": task}
        told = {
            option: value
            for option, value in ({"type": name} | report["options"]).items()
            if asked.get(option) != value
        }
        if told:
            told_from = f"Told from the {files[0].noun}: {_shown(told)}"
            events.append(session, job.id, [Event(told_from, data={"task": task})])
    options = spec.reading(task)
    for item in files:
        found = item.preparation.report or {}
        if (found.get("task"), found.get("options")) == (name, options):
            continue
        known = item.preparation
        reading = Reading(name, options, known.columns, known.model, tuple(known.extras))
        item.preparation = preparations.ensure(session, item.file, reading, max_attempts=job.max_attempts)
        setattr(job, item.param.replace("_file", "_preparation"), item.preparation.id)
    session.flush()
    return None


def _shown(told: dict[str, Any]) -> str:
    return ", ".join(f"task {value}" if option == "type" else f"{option} {value}" for option, value in told.items())
