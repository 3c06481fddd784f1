import time

import openai as sdk
import pytest
from openai import OpenAI

from tests.e2e.conftest import wait

pytestmark = pytest.mark.e2e


def finished(openai: OpenAI, job_id: str):
    def look():
        job = openai.fine_tuning.jobs.retrieve(job_id)
        return job if job.status in ("succeeded", "failed", "cancelled") else None

    return wait(look)


def test_the_sdk_drives_a_job_from_upload_to_delete(openai: OpenAI, uploaded: dict[str, str]):
    job = openai.fine_tuning.jobs.create(
        model="starter/minilm-l6",
        training_file=uploaded["train"],
        validation_file=uploaded["validation"],
        suffix="sdk",
        seed=7,
        metadata={"made-by": "sdk-test"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 32}}},
        extra_body={"test_file": uploaded["test"]},
    )
    assert job.object == "fine_tuning.job"
    assert job.status in ("validating_files", "queued", "running")
    job = finished(openai, job.id)
    assert (job.status, job.error, job.seed) == ("succeeded", None, 7)
    assert job.fine_tuned_model.startswith("ft:starter/minilm-l6:default:sdk:")
    assert job.hyperparameters.n_epochs == 2
    assert job.trained_tokens > 0
    assert job.finished_at >= job.created_at
    assert job.model_extra["metrics"]["test"]["accuracy"] > 0.7

    events = list(openai.fine_tuning.jobs.list_events(job.id, limit=5))
    assert len(events) > 5
    assert [event.created_at for event in events] == sorted((event.created_at for event in events), reverse=True)
    assert events[-1].message == f"Created fine-tuning job: {job.id}"
    assert events[0].message == "The job has successfully completed"
    assert any(event.type == "metrics" and "valid_loss" in event.data for event in events)

    checkpoints = list(openai.fine_tuning.jobs.checkpoints.list(job.id))
    assert checkpoints
    assert all(point.fine_tuning_job_id == job.id for point in checkpoints)
    kept = openai.models.retrieve(checkpoints[0].fine_tuned_model_checkpoint)
    assert kept.id.endswith(f":ckpt-step-{checkpoints[0].step_number}")

    csv = openai.files.content(job.result_files[0]).text
    assert csv.startswith("step,")
    assert openai.files.retrieve(job.result_files[0]).purpose == "fine-tune-results"

    assert job.id in [listed.id for listed in openai.fine_tuning.jobs.list(metadata={"made-by": "sdk-test"})]
    assert {"starter/minilm-l6", job.fine_tuned_model} <= {model.id for model in openai.models.list()}
    assert openai.models.delete(job.fine_tuned_model).deleted
    with pytest.raises(sdk.NotFoundError):
        openai.models.retrieve(job.fine_tuned_model)
    assert openai.files.delete(uploaded["test"]).deleted
    with pytest.raises(sdk.NotFoundError):
        openai.files.retrieve(uploaded["test"])


def test_a_bad_line_reaches_the_sdk_user_within_seconds(openai: OpenAI):
    rows = b'{"text": "fine", "label": "a"}\n' * 3 + b'{"text": "broken", "label": \n'
    file = openai.files.create(file=("reviews.jsonl", rows), purpose="fine-tune")
    started = time.monotonic()
    file = openai.files.wait_for_processing(file.id, poll_interval=0.1)
    assert file.status == "error"
    assert "line 4" in file.status_details
    assert time.monotonic() - started < 30
    with pytest.raises(sdk.APIStatusError) as refused:
        openai.fine_tuning.jobs.create(model="no/such", training_file=file.id)
    assert refused.value.code == "model_not_found"
    job = finished(openai, openai.fine_tuning.jobs.create(model="starter/minilm-l6", training_file=file.id).id)
    assert job.status == "failed"
    assert "line 4" in job.error.message


def test_sdk_error_classes_are_the_right_ones(openai: OpenAI, uploaded: dict[str, str], service):
    with pytest.raises(sdk.NotFoundError):
        openai.fine_tuning.jobs.retrieve("ftjob-00000000000000000000000000000")
    with pytest.raises(sdk.AuthenticationError):
        openai.with_options(api_key="tlr-wrong").models.list()
    with pytest.raises(sdk.BadRequestError) as refused:
        openai.fine_tuning.jobs.create(model="starter/minilm-l6", training_file="file-0000")
    assert refused.value.param == "training_file"
    with pytest.raises((sdk.BadRequestError, sdk.UnprocessableEntityError)) as unknown:
        openai.fine_tuning.jobs.create(
            model="starter/minilm-l6", training_file=uploaded["train"], extra_body={"trainingfile": "x"}
        )
    assert "training_file" in str(unknown.value)


def test_jobs_page_by_themselves_and_cancel(openai: OpenAI, uploaded: dict[str, str]):
    made = [
        openai.fine_tuning.jobs.create(
            model="starter/minilm-l6",
            training_file=uploaded["train"],
            metadata={"batch": "paging"},
            extra_body={"hyperparameters": {"n_epochs": 100}},
        ).id
        for _ in range(3)
    ]
    listed = [job.id for job in openai.fine_tuning.jobs.list(limit=1, metadata={"batch": "paging"})]
    assert listed == made[::-1]
    wait(lambda: openai.fine_tuning.jobs.retrieve(made[0]).status == "running")
    with pytest.raises(sdk.ConflictError):
        openai.files.delete(uploaded["train"])
    for job_id in made[::-1]:
        openai.fine_tuning.jobs.cancel(job_id)
    started = time.monotonic()
    assert {finished(openai, job_id).status for job_id in made} == {"cancelled"}
    assert time.monotonic() - started < 20
