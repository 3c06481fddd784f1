"""Target files, and the files and models that methods name: looked up, read, waited for, kept from deletion."""

from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import select

from app.catalog.adaptation.spec import FileId, MethodOptions, MethodSpec, ModelId, NeededFile, NeededModel
from app.catalog.methods import METHODS
from app.db import transaction
from app.errors import AppError
from app.files import service as files
from app.files.service import NewFile
from app.jobs import preparations, service, validation
from app.jobs.events import Event
from app.jobs.lifecycle import change
from app.jobs.service import NewJob
from app.registry import models
from app.storage.blobs import put
from app.tables import File, Job, JobEvent, JobInput, Model, Preparation
from tests.jobs.conftest import GOOD

TEXTS = {"task": "fill-mask", "options": {}, "rows": 3}
PRETRAINING = "continued_pretraining"


class ProbeOptions(MethodOptions):
    """A method that names one of everything."""

    file: FileId
    model: ModelId
    columns: dict[str, str] = {}  # noqa: RUF012 (pydantic copies it)


def read_as_the_job(options: ProbeOptions, task: Mapping[str, Any]) -> tuple[NeededFile, ...]:
    return (NeededFile("probe.file", options.file, task, options.columns),)


PROBE = MethodSpec(
    name="probe",
    title="Probe",
    options=ProbeOptions,
    impl="worker.methods.full:FullFineTuning",
    files=read_as_the_job,
    models=lambda options: (NeededModel("probe.model", options.model, "fill-mask"),),
    tasks=("text-classification",),
    needs_target=True,
)


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, PROBE.name, PROBE)


def create(sessions, caller, settings, *args, **fields) -> Job:
    with transaction(sessions) as session:
        job = service.create(session, caller, NewJob(*args, **fields), settings)
        assert job.inputs is not None  # read while there is a session
        return job


def inputs_of(sessions, job: Job) -> dict[str, JobInput]:
    with transaction(sessions) as session:
        return {item.key: item for item in session.scalars(select(JobInput).where(JobInput.job_id == job.id))}


def read(sessions, blobs, preparation_id: str, report: dict | None = None, error: dict | None = None):
    """End a preparation as a worker would, and move the jobs that waited for it."""
    with transaction(sessions) as session:
        (preparing,) = change(session, "cancelled", Job.preparation_id == preparation_id, event=lambda _: Event("read"))
        if error is not None:
            preparations.fail(session, preparing.preparation_id, error)
        else:
            preparations.succeed(session, preparing.preparation_id, put(blobs, [b"parquet"]), report)
        validation.advance(session)


def state(sessions, job: Job) -> Job:
    with transaction(sessions) as session:
        return session.get(Job, job.id)


def test_target_files_are_read_as_texts_and_the_job_waits_for_them(sessions, caller, settings, upload, starter, blobs):
    target = upload(report=GOOD)
    job = create(sessions, caller, settings, starter, upload(report=GOOD), target_files=[target])
    assert job.status == "validating_files"
    item = inputs_of(sessions, job)["target_files.0"]
    with transaction(sessions) as session:
        preparation = session.get(Preparation, item.preparation_id)
        assert (preparation.task, preparation.file_id, preparation.model) == ("fill-mask", target, starter)
        said = session.scalars(select(JobEvent.message).where(JobEvent.job_id == job.id)).all()
    assert any(f"target_files[0] {target}" in message for message in said)

    read(sessions, blobs, item.preparation_id, TEXTS)

    assert state(sessions, job).status == "queued"


def test_a_target_file_without_a_text_fails_the_job_and_names_the_file(
    sessions, caller, settings, upload, starter, blobs
):
    target = upload(report=GOOD)
    job = create(sessions, caller, settings, starter, upload(report=GOOD), target_files=[upload(), target])
    items = inputs_of(sessions, job)
    error = {"code": "missing_column", "message": "words.jsonl: no column for the field 'text'", "param": "columns"}
    read(sessions, blobs, items["target_files.0"].preparation_id, TEXTS)
    assert state(sessions, job).status == "validating_files"
    read(sessions, blobs, items["target_files.1"].preparation_id, error=error)

    failed = state(sessions, job)
    assert (failed.status, failed.error["code"], failed.error["param"]) == (
        "failed",
        "missing_column",
        "target_files[1]",
    )
    assert f"target_files[1] {target} (reviews.jsonl)" in failed.error["message"]
    assert "plain text, or records with a column `text`" in failed.error["message"]


def test_columns_of_the_upload_are_used_as_far_as_the_task_has_such_fields(sessions, caller, settings, starter, blobs):
    blob = put(blobs, [b"anything"])
    with transaction(sessions) as session:
        columns = {"text": "review", "label": "stars"}
        new = NewFile("reviews.csv", "fine-tune", blob, task="text-classification", columns=columns)
        file_id = files.create(session, caller, new, settings).id
    job = create(sessions, caller, settings, starter, file_id, target_files=[file_id])
    with transaction(sessions) as session:
        preparation = session.get(Preparation, inputs_of(sessions, job)["target_files.0"].preparation_id)
    assert preparation.columns == {"text": "review"}


def test_a_file_in_two_places_is_read_once(sessions, caller, settings, upload, starter):
    texts = upload(report=GOOD)
    adaptation = {PRETRAINING: {"files": [texts]}}
    job = create(sessions, caller, settings, starter, upload(report=GOOD), target_files=[texts], adaptation=adaptation)
    items = inputs_of(sessions, job)
    assert set(items) == {"target_files.0", f"adaptation.{PRETRAINING}.files.0"}
    assert len({item.preparation_id for item in items.values()}) == 1


@pytest.mark.parametrize(
    ("fields", "code", "param", "words"),
    [
        ({"target_files": ["file-00"]}, "file_not_found", "target_files[0]", "No such file"),
        (
            {"adaptation": {PRETRAINING: {"files": ["file-00"]}}},
            "file_not_found",
            f"adaptation.{PRETRAINING}.files[0]",
            "No such file",
        ),
        ({"adaptation": {PRETRAINING: {}}}, "method_does_not_fit", f"adaptation.{PRETRAINING}", "target_files"),
        (
            {"adaptation": {PRETRAINING: {"objective": "causal", "use_training_texts": True}}},
            "method_does_not_fit",
            f"adaptation.{PRETRAINING}",
            "'masked'. Leave",
        ),
    ],
)
def test_what_does_not_exist_or_fit_is_refused_and_named(
    fields, code, param, words, sessions, caller, settings, upload, starter
):
    with pytest.raises(AppError) as refused:
        create(sessions, caller, settings, starter, upload(report=GOOD), **fields)
    assert (refused.value.status, refused.value.code, refused.value.param) == (400, code, param)
    assert words in refused.value.message


def test_files_of_other_projects_and_purposes_are_refused(sessions, caller, settings, upload, starter, blobs):
    with transaction(sessions) as session:
        result = files.add_result(session, caller.project_id, "metrics.csv", put(blobs, [b"step\n"])).id
    with pytest.raises(AppError, match="fine-tune-results") as refused:
        create(sessions, caller, settings, starter, upload(report=GOOD), target_files=[result])
    assert refused.value.param == "target_files[0]"


def test_a_file_that_an_unfinished_job_names_in_a_method_cannot_be_deleted(sessions, caller, settings, upload, starter):
    texts = upload(report=GOOD)
    adaptation = {PRETRAINING: {"files": [texts]}}
    job = create(sessions, caller, settings, starter, upload(report=GOOD), adaptation=adaptation)
    with transaction(sessions) as session, pytest.raises(AppError, match=job.id) as refused:
        files.delete(session, caller, texts)
    assert refused.value.status == 409
    with transaction(sessions) as session:
        session.get(File, texts).expires_at = job.created_at
        session.flush()
        assert files.remove_expired(session) == []
        service.cancel(session, caller, job.id)
        assert files.remove_expired(session) == [texts]
    assert inputs_of(sessions, job)[f"adaptation.{PRETRAINING}.files.0"].preparation_id is None


def options(file: str, model: str, **more: Any) -> dict[str, Any]:
    return {"probe": {"file": file, "model": model, **more}}


def test_a_file_that_is_read_as_the_jobs_task_is_asked_for_once_that_is_known(
    sessions, caller, settings, upload, starter, blobs, probe
):
    training, other, target = upload(), upload(), upload()
    fields = {"target_files": [target], "adaptation": options(other, starter)}
    job = create(sessions, caller, settings, starter, training, **fields)
    items = inputs_of(sessions, job)
    assert items["adaptation.probe.file"].preparation_id is None
    read(sessions, blobs, items["target_files.0"].preparation_id, TEXTS)
    read(sessions, blobs, job.training_preparation, GOOD)

    assert state(sessions, job).status == "validating_files"
    asked = inputs_of(sessions, job)["adaptation.probe.file"].preparation_id
    with transaction(sessions) as session:
        preparation = session.get(Preparation, asked)
        assert (preparation.task, preparation.options) == ("text-classification", GOOD["options"])

    read(sessions, blobs, asked, GOOD)
    assert state(sessions, job).status == "queued"


def test_a_file_that_was_told_to_be_another_variant_is_read_again(
    sessions, caller, settings, upload, starter, blobs, probe
):
    training, other, target = upload(), upload(), upload()
    fields = {"target_files": [target], "adaptation": options(other, starter)}
    task = {"type": "text-classification", "problem_type": None}
    job = create(sessions, caller, settings, starter, training, task=task, **fields)
    items = inputs_of(sessions, job)
    told = GOOD | {"options": {"problem_type": "regression"}}
    read(sessions, blobs, items["adaptation.probe.file"].preparation_id, told)
    read(sessions, blobs, job.training_preparation, GOOD)
    read(sessions, blobs, items["target_files.0"].preparation_id, TEXTS)

    again = inputs_of(sessions, job)["adaptation.probe.file"].preparation_id
    assert again != items["adaptation.probe.file"].preparation_id
    with transaction(sessions) as session:
        assert session.get(Preparation, again).options == GOOD["options"]


def test_models_that_methods_name_are_looked_up_and_kept(sessions, caller, settings, upload, starter, probe):
    with transaction(sessions) as session:
        for id_, task in (("ft:a:b:c:1", "fill-mask"), ("ft:a:b:c:2", "token-classification")):
            tuned = {"kind": "fine_tuned", "project_id": caller.project_id, "family": "bert", "bytes": 0}
            session.add(Model(id=id_, task=task, **tuned))
        session.add(Model(id="local/t5", kind="base", family="t5", bytes=0))
    file = upload(report=GOOD)

    def attempt(model: str, **more: Any) -> Job:
        adaptation = options(file, model, **more)
        return create(sessions, caller, settings, starter, file, target_files=[file], adaptation=adaptation)

    for model, code, words in (
        ("ft:a:b:c:2", "model_of_other_task", "fine-tuned for token-classification"),
        ("local/t5", "model_does_not_fit_task", "'t5'"),
        ("local/none", "model_not_found", "No such model"),
    ):
        with pytest.raises(AppError) as refused:
            attempt(model)
        assert (refused.value.code, refused.value.param) == (code, "adaptation.probe.model")
        assert words in refused.value.message
    with pytest.raises(AppError) as refused:
        attempt("ft:a:b:c:1", columns={"txt": "a"})
    assert refused.value.param == "adaptation.probe.file.columns.txt"
    assert "did you mean 'text'?" in refused.value.message

    job = attempt("ft:a:b:c:1")
    with transaction(sessions) as session, pytest.raises(AppError, match=job.id):
        service.delete_model(session, caller, "ft:a:b:c:1")
    with transaction(sessions) as session:
        service.cancel(session, caller, job.id)
        service.delete_model(session, caller, "ft:a:b:c:1")
        with pytest.raises(AppError, match="was removed"):
            models.get(session, caller.project_id, "ft:a:b:c:1")


def test_a_method_that_needs_target_files_says_so(sessions, caller, settings, upload, starter, probe):
    file = upload(report=GOOD)
    with pytest.raises(AppError, match=r"give their ids as target_files, or leave adaptation\.probe out") as refused:
        create(sessions, caller, settings, starter, file, adaptation=options(file, starter))
    assert (refused.value.code, refused.value.param) == ("target_files_missing", "target_files")


def test_a_method_of_other_tasks_is_refused_at_once_or_once_the_task_is_known(
    sessions, caller, settings, upload, starter, blobs, probe
):
    file = upload()
    fields = {"target_files": [upload()], "adaptation": options(file, starter)}
    with pytest.raises(
        AppError, match=r"adaptation\.probe is not for fill-mask\. It is for text-classification\. Leave"
    ) as refused:
        create(sessions, caller, settings, starter, file, task={"type": "fill-mask"}, **fields)
    assert (refused.value.code, refused.value.param) == ("method_does_not_fit_task", "adaptation.probe")

    job = create(sessions, caller, settings, starter, file, **fields)
    target = inputs_of(sessions, job)["target_files.0"]
    read(sessions, blobs, target.preparation_id, TEXTS)
    read(sessions, blobs, job.training_preparation, TEXTS)
    failed = state(sessions, job)
    assert (failed.error["code"], failed.error["param"]) == ("method_does_not_fit_task", "adaptation.probe")
