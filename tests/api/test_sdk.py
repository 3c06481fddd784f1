"""The unmodified `openai` SDK against a real server."""

import openai
import pytest
from openai import OpenAI

from app.db import transaction
from app.jobs import leases
from app.registry.base_models import STARTER
from tests.api.scenery import ROWS, Scenery

JSON = {"content-type": "application/json"}


@pytest.fixture(autouse=True)
def _base_model(over_http: Scenery) -> None:
    """Jobs need a model to start from."""


def test_files_from_upload_to_delete(sdk: OpenAI, over_http: Scenery, tmp_path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(ROWS)

    with path.open("rb") as data:
        file = sdk.files.create(
            file=data,
            purpose="fine-tune",
            expires_after={"anchor": "created_at", "seconds": 3600},
            extra_body={"task": "text-classification", "columns": {"text": "text", "label": "label"}},
        )
    assert (file.object, file.filename, file.status) == ("file", "train.jsonl", "uploaded")
    assert file.expires_at == file.created_at + 3600
    assert file.model_extra is not None
    assert file.model_extra["columns"] == {"text": "text", "label": "label"}
    over_http.prepare()
    assert sdk.files.wait_for_processing(file.id, poll_interval=0.01).status == "processed"
    assert sdk.files.retrieve(file.id).bytes == len(ROWS)
    assert sdk.files.content(file.id).read() == ROWS
    assert [found.id for found in sdk.files.list(purpose="fine-tune")] == [file.id]

    assert sdk.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        sdk.files.retrieve(file.id)


def test_bytes_and_pairs_are_files_too(sdk: OpenAI) -> None:
    assert sdk.files.create(file=ROWS, purpose="batch").filename == "upload"
    assert sdk.files.create(file=("a.csv", ROWS, "text/csv"), purpose="user_data").filename == "a.csv"


def test_jobs_from_create_to_cancel(sdk: OpenAI) -> None:
    file = sdk.files.create(file=("a.jsonl", ROWS), purpose="fine-tune")

    job = sdk.fine_tuning.jobs.create(
        model=STARTER,
        training_file=file.id,
        suffix="reviews",
        seed=13,
        metadata={"experiment": "one"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": "auto"}}},
        extra_body={"task": {"type": "text-classification"}, "adaptation": {"full": {}}},
    )

    assert (job.object, job.status, job.seed, job.error) == ("fine_tuning.job", "validating_files", 13, None)
    assert job.hyperparameters.n_epochs == 2
    assert job.method is not None
    assert job.method.supervised is not None
    assert job.method.supervised.hyperparameters is not None
    assert job.method.supervised.hyperparameters.batch_size == "auto"
    assert sdk.fine_tuning.jobs.retrieve(job.id) == job
    assert [found.id for found in sdk.fine_tuning.jobs.list(metadata={"experiment": "one"})] == [job.id]
    assert [found.id for found in sdk.fine_tuning.jobs.list(metadata={"experiment": "two"})] == []
    assert sdk.fine_tuning.jobs.cancel(job.id).status == "cancelled"


def test_target_files_and_methods_with_files_of_their_own_go_through_extra_body(
    sdk: OpenAI, over_http: Scenery
) -> None:
    train = sdk.files.create(file=("a.jsonl", ROWS), purpose="fine-tune")
    target, corpus = (sdk.files.create(file=(name, b"A text of the domain."), purpose="fine-tune").id for name in "bc")

    job = sdk.fine_tuning.jobs.create(
        model=STARTER,
        training_file=train.id,
        extra_body={
            "target_files": [target],
            "adaptation": {"continued_pretraining": {"files": [corpus], "n_epochs": 2}, "ema": {}},
        },
    )

    assert job.model_extra is not None
    assert job.model_extra["target_files"] == [target]
    assert job.model_extra["adaptation"] == {"continued_pretraining": {"files": [corpus], "n_epochs": 2}, "ema": {}}
    assert sdk.fine_tuning.jobs.list().data[0] == job
    for file_id in (target, corpus):
        with pytest.raises(openai.ConflictError, match=job.id):
            sdk.files.delete(file_id)
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.fine_tuning.jobs.create(
            model=STARTER, training_file=train.id, extra_body={"adaptation": {"continued_pretraining": {}}}
        )
    assert refused.value.param == "adaptation.continued_pretraining"


def test_a_domain_report_comes_as_data_where_the_sdk_asks_for_it(sdk: OpenAI, over_http: Scenery) -> None:
    files = {"config.json": b"{}", "domain_report.json": b'{"helped": true}', "domain_report.html": b"<title></title>"}
    job = over_http.succeeded_job(files, adaptation={"ema": {}})

    assert sdk.get(f"/fine_tuning/jobs/{job.id}/report", cast_to=object) == {"helped": True}


def test_every_page_is_fetched(sdk: OpenAI) -> None:
    files = [sdk.files.create(file=ROWS, purpose="fine-tune").id for _ in range(5)]
    jobs = [sdk.fine_tuning.jobs.create(model=STARTER, training_file=file).id for file in files]

    assert [file.id for file in sdk.files.list(limit=2)] == files[::-1]
    assert [file.id for file in sdk.files.list(limit=2, order="asc")] == files
    assert [job.id for job in sdk.fine_tuning.jobs.list(limit=2)] == jobs[::-1]
    assert len(list(sdk.fine_tuning.jobs.list_events(jobs[0], limit=1))) == 2


def test_events_checkpoints_and_models_of_a_job(sdk: OpenAI, over_http: Scenery) -> None:
    done = over_http.succeeded_job()

    job = sdk.fine_tuning.jobs.retrieve(done.id)
    assert job.fine_tuned_model is not None
    events = list(sdk.fine_tuning.jobs.list_events(job.id))
    checkpoints = list(sdk.fine_tuning.jobs.checkpoints.list(job.id, limit=1))
    models = {model.id for model in sdk.models.list()}
    model = sdk.models.retrieve(job.fine_tuned_model)

    assert events[0].message == "Job succeeded"
    assert [checkpoint.step_number for checkpoint in checkpoints] == [2, 1]
    assert sdk.models.retrieve(checkpoints[0].fine_tuned_model_checkpoint).id.endswith(":ckpt-step-2")
    assert models == {STARTER, job.fine_tuned_model}
    assert (model.object, model.created) == ("model", model.created)
    assert sdk.models.retrieve(STARTER).owned_by == "tailor"
    assert sdk.files.content(job.result_files[0]).text.startswith("step")
    assert sdk.models.delete(job.fine_tuned_model).deleted


def test_a_job_is_paused_and_resumed(sdk: OpenAI, over_http: Scenery) -> None:
    job = over_http.running_job()
    assert job.lease_token is not None

    assert sdk.fine_tuning.jobs.pause(job.id).status == "running"
    with transaction(over_http.sessions) as session:
        leases.release(session, job.lease_token, "its worker writes a checkpoint and lets go")
    assert sdk.fine_tuning.jobs.retrieve(job.id).status == "paused"
    assert sdk.fine_tuning.jobs.pause(job.id).status == "paused"
    assert [found.id for found in sdk.fine_tuning.jobs.list(extra_query={"status": "paused"})] == [job.id]
    assert sdk.fine_tuning.jobs.resume(job.id).status == "queued"
    assert sdk.fine_tuning.jobs.resume(job.id).status == "queued"
    sdk.fine_tuning.jobs.cancel(job.id)
    for refused in (sdk.fine_tuning.jobs.pause, sdk.fine_tuning.jobs.resume):
        with pytest.raises(openai.ConflictError, match="has already been cancelled") as conflict:
            refused(job.id)
        assert conflict.value.code == "job_already_ended"


def test_every_refusal_is_its_own_exception(sdk: OpenAI, over_http: Scenery, server: str) -> None:
    file = over_http.upload()["id"]
    job = sdk.fine_tuning.jobs.create(model=STARTER, training_file=file)

    with pytest.raises(openai.BadRequestError) as bad:
        sdk.fine_tuning.jobs.create(model=STARTER, training_file=file, seed=-1)
    assert (bad.value.code, bad.value.param, bad.value.type) == ("invalid_value", "seed", "invalid_request_error")
    assert bad.value.request_id
    with pytest.raises(openai.AuthenticationError):
        OpenAI(base_url=f"{server}/v1", api_key="tlr-wrong").models.list()
    with pytest.raises(openai.PermissionDeniedError):
        sdk.models.delete(STARTER)
    with pytest.raises(openai.NotFoundError) as missing:
        sdk.fine_tuning.jobs.retrieve("ftjob-00")
    assert missing.value.code == "job_not_found"
    with pytest.raises(openai.UnprocessableEntityError):
        sdk.post("/fine_tuning/jobs", cast_to=object, content=b"{", options={"headers": JSON})
    with pytest.raises(openai.ConflictError) as conflict:
        sdk.files.delete(file)
    assert conflict.value.code == "file_in_use"
    assert job.id in conflict.value.message


def test_a_conflict_is_not_tried_again(sdk: OpenAI, over_http: Scenery, monkeypatch) -> None:
    job = over_http.succeeded_job()
    monkeypatch.setattr(sdk, "_sleep_for_retry", lambda **_: pytest.fail("it was tried again"))

    with pytest.raises(openai.ConflictError):
        sdk.fine_tuning.jobs.cancel(job.id)


def test_a_server_error_is_tried_again_and_then_raised(sdk: OpenAI, monkeypatch) -> None:
    tries: list[object] = []

    def fail(*_: object) -> None:
        tries.append(1)
        raise RuntimeError

    monkeypatch.setattr("app.api.models.models.list_all", fail)
    monkeypatch.setattr(sdk, "_sleep_for_retry", lambda **_: None)

    with pytest.raises(openai.InternalServerError):
        sdk.models.list()
    assert len(tries) == 3
