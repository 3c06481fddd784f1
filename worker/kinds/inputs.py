"""Prepared files and further models of a job, from the database into a run directory."""

import uuid
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.catalog.plan import DataFile
from app.jobs import inputs
from app.storage.blobs import get_file
from app.tables import File, Job, JobInput, Preparation
from worker import base_models, protocol
from worker.context import WorkerContext
from worker.kinds import UnusableJobError

TARGET, METHOD = f"{inputs.TARGET_FILES}.", f"{inputs.METHODS}."  # how keys begin


@dataclass(frozen=True)
class PreparedSplit:
    """Where the records of a file lie, and what the plan says of them."""

    records: uuid.UUID
    data_file: DataFile


@dataclass(frozen=True)
class FurtherInputs:
    """What a job needs beside its three files and its base: prepared files, and ids of models, by their keys."""

    files: dict[str, PreparedSplit]
    models: dict[str, str]

    @property
    def target(self) -> tuple[DataFile, ...]:
        """Texts of the domain that the model is for."""
        return tuple(file.data_file for key, file in self.files.items() if key.startswith(TARGET))

    @property
    def method_files(self) -> dict[str, DataFile]:
        """Files of methods, by `method.option`."""
        found = ((key, file.data_file) for key, file in self.files.items() if key.startswith(METHOD))
        return {key.removeprefix(METHOD): file for key, file in found}

    @property
    def method_models(self) -> dict[str, str]:
        """Directories of models of methods, by `method.option`."""
        return {key.removeprefix(METHOD): f"models/{number}" for number, key in enumerate(self.models)}

    def fetch(self, context: WorkerContext, run_dir: Path) -> None:
        """Lay all of it into the run directory. Raises UnusableJobError for a model that is not to be had."""
        for file in self.files.values():
            get_file(context.blobs, file.records, run_dir / file.data_file.path)
        for key, directory in self.method_models.items():
            fetch_model(context, self.models[METHOD + key], run_dir / directory, inputs.param_of(METHOD + key))


def further_inputs(session: Session, job: Job) -> FurtherInputs:
    """Those of a job. Raises UnusableJobError for a file that is gone."""
    items = session.scalars(select(JobInput).where(JobInput.job_id == job.id).order_by(JobInput.seq)).all()
    return FurtherInputs(
        files={
            item.key: _prepared(session, f"input-{place}", inputs.param_of(item.key), item.file_id, item.preparation_id)
            for place, item in enumerate(items)
            if item.file_id is not None
        },
        models={item.key: item.model_id for item in items if item.model_id is not None},
    )


def data_of(session: Session, job: Job, name: str, file_param: str, preparation_param: str) -> PreparedSplit | None:
    """The prepared file that `file_param` of a job names, if it names one. Raises UnusableJobError if it is gone."""
    file_id: str | None = getattr(job, file_param)
    return None if file_id is None else _prepared(session, name, file_param, file_id, getattr(job, preparation_param))


def _prepared(session: Session, name: str, param: str, file_id: str, preparation_id: str | None) -> PreparedSplit:
    file = session.get(File, file_id)
    preparation = session.get(Preparation, preparation_id or "")
    if file is None or preparation is None or preparation.blob_id is None or preparation.report is None:
        failure = protocol.Failure("user_error", "file_not_found", f"The {param} {file_id} was deleted.", param)
        raise UnusableJobError(failure)
    return PreparedSplit(
        preparation.blob_id,
        DataFile(
            path=f"data/{name}.parquet",
            file_id=file.id,
            filename=file.filename,
            sha256=file.sha256,
            rows=preparation.report["rows"],
        ),
    )


def fetch_model(context: WorkerContext, model_id: str, directory: Path, param: str) -> None:
    """Bring a model into the run directory. Raises UnusableJobError, naming `param`, if it is not to be had."""
    try:
        base_models.provide(context, model_id, directory)
    except base_models.ModelUnavailableError as error:
        raise UnusableJobError(protocol.Failure("user_error", "model_unusable", str(error), param)) from error
