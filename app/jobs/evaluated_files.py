"""What can be known of an evaluation before it takes a device: whether its file is data that the model can be asked."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from app.catalog.tasks import TASKS
from app.catalog.unknown_labels import unknown_labels
from app.jobs import resolution
from app.jobs.leases import JobError
from app.jobs.resolution import PreparedFile
from app.tables import File, Job, Model, Preparation

PARAM = "file"  # of an evaluation, which keeps it as a job keeps its test file


def find_problem(session: Session, job: Job) -> tuple[JobError | None, bool]:
    """Why the evaluation cannot be done, if so; and whether its file is still being read."""
    file, preparation = session.get(File, job.test_file), session.get(Preparation, job.test_preparation or "")
    if file is None or preparation is None:
        return JobError("file_not_found", f"The file {job.test_file} was deleted.", PARAM), False
    if preparation.error is not None:
        error = preparation.error
        message = f"file {file.id} ({file.filename}): {error['message']}"
        return JobError(error["code"], message, PARAM, error.get("data")), False
    item = _EvaluatedFile("test_file", file, preparation)
    problem = resolution.resolve(session, job, [item])
    if problem is None and item.preparation.status == "pending":
        return None, True
    return problem or _labels_problem(session, job, item), False


class _EvaluatedFile(PreparedFile):
    @property
    def noun(self) -> str:
        return "file"


def _labels_problem(session: Session, job: Job, item: PreparedFile) -> JobError | None:
    """Labels of the file that the model does not know, as far as the model's labels are known here."""
    model = session.get(Model, job.model)
    counts: Mapping[str, int] | None = (item.preparation.report or {}).get("labels")
    if model is None or model.labels is None or not counts:
        return None
    task: dict[str, Any] = job.spec["task"]
    target = TASKS[task["type"]].variant(task).target
    tags = target is not None and target.type == "tags"
    known: Sequence[str] = sorted({tag[2:] for tag in model.labels if tag != "O"}) if tags else model.labels
    found = unknown_labels(item.file.filename, counts, model.id, known, "entity types" if tags else "labels")
    return None if found is None else JobError(found.code, found.message, PARAM, found.data)
