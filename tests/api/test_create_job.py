"""POST /v1/fine_tuning/jobs: what is accepted, what it becomes, and every refusal with its own sentence."""

import json
import re
from typing import Any

import pytest

from app.db import transaction
from app.jobs.service import MAX_SEED
from app.registry.base_models import STARTER
from app.tables import Job, JobEvent, Preparation
from tests.api.scenery import Scenery
from tests.api.test_access import error_of

JOBS = "/v1/fine_tuning/jobs"


def supervised(**hyperparameters: Any) -> dict[str, Any]:
    return {"method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}}


def test_a_job_with_two_fields_is_answered_whole(scenery: Scenery) -> None:
    file = scenery.upload()

    job = scenery.create_job(training_file=file["id"])

    assert re.fullmatch(r"ftjob-[0-9a-f]{30}", job["id"])
    assert job["object"] == "fine_tuning.job"
    assert job["status"] == "validating_files"
    assert isinstance(job["created_at"], int)
    assert 0 <= job["seed"] <= MAX_SEED
    assert job["method"]["supervised"]["hyperparameters"] == job["hyperparameters"]
    assert job["task"] == {}  # nobody has said it, and the file is not read yet
    nothing_yet = ("finished_at", "fine_tuned_model", "validation_file", "test_file", "trained_tokens", "error")
    assert all(job[name] is None for name in (*nothing_yet, "estimated_finish", "progress", "metrics"))
    assert (job["result_files"], job["integrations"], job["metadata"]) == ([], [], {})
    assert (job["adaptation"], job["columns"], job["attempt"]) == ({}, {}, 0)
    assert job["organization_id"].startswith("proj-")


def test_a_job_with_every_field_shows_them_again(scenery: Scenery) -> None:
    files = [scenery.upload(filename=name)["id"] for name in ("train.jsonl", "validation.jsonl", "test.jsonl")]

    job = scenery.create_job(
        training_file=files[0],
        validation_file=files[1],
        test_file=files[2],
        suffix="My_model-1.0",
        seed=13,
        metadata={"experiment": "ünïcode"},
        integrations=[],
        task={"type": "text-classification"},
        columns={"text": "review"},
        adaptation={"full": {}},
        **supervised(n_epochs=2, batch_size="auto", learning_rate=1e-4, class_weights={"a": 1, "b": 2.5}),
    )

    assert [job["training_file"], job["validation_file"], job["test_file"]] == files
    assert (job["user_provided_suffix"], job["seed"]) == ("My_model-1.0", 13)
    assert job["metadata"] == {"experiment": "ünïcode"}
    assert job["task"] == {"type": "text-classification", "problem_type": None}
    assert job["columns"] == {"text": "review"}
    assert job["adaptation"] == {"full": {}}
    assert job["hyperparameters"]["n_epochs"] == 2
    assert job["hyperparameters"]["batch_size"] == "auto"
    assert job["hyperparameters"]["class_weights"] == {"a": 1, "b": 2.5}


def test_null_means_left_out(scenery: Scenery) -> None:
    names = ("validation_file", "test_file", "suffix", "seed", "metadata", "integrations", "method", "task", "columns")

    job = scenery.create_job(**dict.fromkeys((*names, "adaptation")))

    assert job["metadata"] == {}
    assert job["seed"] is not None


def test_the_deprecated_place_of_hyperparameters_works(scenery: Scenery) -> None:
    job = scenery.create_job(hyperparameters={"n_epochs": 5, "learning_rate_multiplier": 2})

    assert job["hyperparameters"]["n_epochs"] == 5
    assert job["method"]["supervised"]["hyperparameters"]["learning_rate_multiplier"] == 2


def test_the_task_and_columns_of_the_upload_are_used_where_the_job_names_none(scenery: Scenery) -> None:
    file = scenery.upload(task="text-classification", columns='{"text": "review"}')

    job = scenery.create_job(training_file=file["id"])

    assert job["task"]["type"] == "text-classification"
    with transaction(scenery.sessions) as session:
        assert {tuple(row.columns.items()) for row in session.query(Preparation)} == {(("text", "review"),)}


def test_a_job_whose_file_was_prepared_already_is_queued_at_once(scenery: Scenery) -> None:
    file = scenery.upload()
    scenery.prepare()

    job = scenery.create_job(training_file=file["id"])

    assert job["status"] == "queued"


REFUSALS: list[tuple[dict[str, Any], str, str, str]] = [
    ({"seeds": 1}, "unknown_field", "seeds", "did you mean 'seed'?"),
    ({"n_epochs": 3}, "unknown_field", "n_epochs", "known here: adaptation"),
    (supervised(n_epoch=3), "unknown_field", "method.supervised.hyperparameters.n_epoch", "did you mean 'n_epochs'?"),
    ({"task": {"type": "text-classification", "head": "crf"}}, "unknown_field", "task.head", "problem_type"),
    ({"task": {"type": "ner"}}, "invalid_value", "task.type", 'give "text-classification"'),
    ({"task": "text-classification"}, "invalid_value", "task", "give an object"),
    ({"adaptation": {"lorra": {}}}, "unknown_field", "adaptation.lorra", "did you mean 'lora'?"),
    ({"adaptation": {"lora": {"r": 0}}}, "invalid_value", "adaptation.lora.r", "from 1 to 1,024"),
    ({"adaptation": {"lora": {}, "freeze": {"layers": ["0"]}}}, "invalid_value", "adaptation", "do not go together"),
    ({"adaptation": {"freeze": {}}}, "invalid_value", "adaptation.freeze", "nothing is frozen: give layers"),
    (
        {"adaptation": {"freeze": {"layers": ["all"]}}},
        "invalid_value",
        "adaptation.freeze.layers",
        'give "embeddings", "encoder"',
    ),
    ({"adaptation": {"freeze": {"layers": ["5-2"]}}}, "invalid_value", "adaptation.freeze.layers", "give 2-5"),
    ({"adaptation": {"full": {"r": 8}}}, "unknown_field", "adaptation.full.r", "'r'"),
    ({"adaptation": {"full": {"control": True}}}, "invalid_value", "adaptation.full", "nothing to compare"),
    ({"adaptation": {"full": None}}, "invalid_value", "adaptation.full", "give an object"),
    ({"adaptation": ["full"]}, "invalid_value", "adaptation", "give an object"),
    ({"columns": {"txt": "a"}}, "unknown_field", "columns.txt", "did you mean 'text'?"),
    ({"columns": {"text": ""}}, "invalid_value", "columns.text", "1 to 256 characters"),
    ({"columns": {"text": 1}}, "invalid_value", "columns.text", "1 to 256 characters"),
    ({"model": ""}, "invalid_value", "model", "1 to 256 characters"),
    ({"model": 5}, "invalid_value", "model", "is 5; give a string"),
    ({"model": "starter/nothing"}, "model_not_found", "model", STARTER),
    ({"model": "org/name"}, "model_not_found", "model", "TAILOR_HUB=on"),
    ({"training_file": "train.jsonl"}, "invalid_value", "training_file", 'a string like "file-'),
    ({"training_file": "file-00ff"}, "file_not_found", "training_file", "No such file"),
    ({"validation_file": "file-00ff"}, "file_not_found", "validation_file", "No such file"),
    ({"test_file": "file-00ff"}, "file_not_found", "test_file", "No such file"),
    ({"target_files": ["file-00ff"]}, "file_not_found", "target_files[0]", "No such file"),
    ({"target_files": ["a"]}, "invalid_value", "target_files[0]", 'a string like "file-'),
    ({"target_files": []}, "invalid_value", "target_files", "1 to 10"),
    ({"target_files": ["file-00ff"] * 2}, "invalid_value", "target_files", "file-00ff is named twice"),
    (
        {"adaptation": {"continued_pretraining": {}}},
        "method_does_not_fit",
        "adaptation.continued_pretraining",
        "has no texts to train on. Give the job target_files, name files in",
    ),
    (
        {"adaptation": {"continued_pretraining": {"files": ["texts.txt"]}}},
        "invalid_value",
        "adaptation.continued_pretraining.files[0]",
        'is "texts.txt"',
    ),
    ({"suffix": ""}, "invalid_value", "suffix", "1 to 64 characters"),
    ({"suffix": "x" * 65}, "invalid_value", "suffix", "1 to 64 characters"),
    ({"suffix": "a:b"}, "invalid_value", "suffix", 'is "a:b"'),
    ({"seed": -1}, "invalid_value", "seed", "an integer from 0 to 2,147,483,647"),
    ({"seed": 2**31}, "invalid_value", "seed", "an integer from 0 to 2,147,483,647"),
    ({"seed": "13"}, "invalid_value", "seed", 'is "13"'),
    ({"seed": 1.5}, "invalid_value", "seed", "is 1.5"),
    ({"metadata": {"a": 1}}, "invalid_value", "metadata.a", "a string of at most 512 characters"),
    ({"metadata": {"a": "x" * 513}}, "invalid_value", "metadata.a", "at most 512"),
    ({"metadata": {"k" * 65: "a"}}, "invalid_value", f"metadata.{'k' * 65}", "at most 64"),
    ({"metadata": {str(n): "a" for n in range(17)}}, "invalid_value", "metadata", "at most 16 entries"),
    ({"metadata": []}, "invalid_value", "metadata", "give an object"),
    ({"integrations": [{"type": "wandb"}]}, "invalid_value", "integrations", "Tailor has no integrations"),
    ({"method": {"type": "dpo"}}, "invalid_value", "method.type", 'is "dpo"; give "supervised"'),
    ({"method": {"type": "dpo", "dpo": {}}}, "invalid_value", "method.type", 'give "supervised"'),
    ({"method": {}}, "missing_field", "method.type", 'give "supervised"'),
    ({"hyperparameters": {}, **supervised()}, "invalid_value", None, "were both given"),
    (supervised(n_epochs=0), "invalid_value", "method.supervised.hyperparameters.n_epochs", "from 1 to 1,000"),
    (
        supervised(n_epochs="many"),
        "invalid_value",
        "method.supervised.hyperparameters.n_epochs",
        '"auto" or an integer',
    ),
    (supervised(n_epochs="3"), "invalid_value", "method.supervised.hyperparameters.n_epochs", '"auto" or an integer'),
    (supervised(batch_size=1.5), "invalid_value", "method.supervised.hyperparameters.batch_size", "is 1.5"),
    (supervised(learning_rate=0), "invalid_value", "method.supervised.hyperparameters.learning_rate", "above 0"),
    (supervised(learning_rate=[1]), "invalid_value", "method.supervised.hyperparameters.learning_rate", "is [1]"),
    (supervised(learning_rate=1e400), "invalid_value", "method.supervised.hyperparameters.learning_rate", "number"),
    (supervised(lr_scheduler="x"), "invalid_value", "method.supervised.hyperparameters.lr_scheduler", '"cosine"'),
    (
        supervised(class_weights={"a": -1}),
        "invalid_value",
        "method.supervised.hyperparameters.class_weights.a",
        "above 0",
    ),
    (supervised(class_weights="x"), "invalid_value", "method.supervised.hyperparameters.class_weights", '"balanced"'),
]


@pytest.mark.parametrize(("fields", "code", "param", "hint"), REFUSALS, ids=[str(case[0])[:60] for case in REFUSALS])
def test_a_job_that_cannot_be_is_refused_in_one_sentence_and_nothing_is_kept(
    scenery: Scenery, fields: dict[str, Any], code: str, param: str | None, hint: str
) -> None:
    file = scenery.upload()
    body = {"model": STARTER, "training_file": file["id"]} | fields
    text = json.dumps(body).replace("Infinity", "1e400")

    response = scenery.client.post(JOBS, content=text, headers={"content-type": "application/json"})

    assert response.status_code == 400, response.text
    error = error_of(response)
    assert (error["code"], error["param"]) == (code, param)
    assert hint in error["message"], error["message"]
    assert len(error["message"]) < 500
    with transaction(scenery.sessions) as session:
        assert session.query(Job).filter(Job.kind == "fine_tuning").count() == 0
        assert session.query(JobEvent).filter(JobEvent.message.startswith("Created")).count() == 0


def test_several_mistakes_are_named_at_once(scenery: Scenery) -> None:
    response = scenery.client.post(JOBS, json={"model": STARTER, "seed": -1, "suffixes": "x"})

    assert [problem["param"] for problem in error_of(response)["errors"]] == ["training_file", "seed", "suffixes"]


def test_a_file_of_another_purpose_cannot_be_trained_on(scenery: Scenery) -> None:
    file = scenery.upload(purpose="batch")

    response = scenery.client.post(JOBS, json={"model": STARTER, "training_file": file["id"]})

    assert response.status_code == 400
    assert error_of(response)["code"] == "wrong_purpose"


def test_a_deleted_file_cannot_be_trained_on(scenery: Scenery) -> None:
    file = scenery.upload()
    scenery.client.delete(f"/v1/files/{file['id']}")

    response = scenery.client.post(JOBS, json={"model": STARTER, "training_file": file["id"]})

    assert error_of(response)["code"] == "file_not_found"


@pytest.mark.parametrize(
    ("family", "problem", "code"),
    [
        ("bert", "it has no safetensors weights; save it with save_pretrained", "model_unusable"),
        ("whisper", None, "model_does_not_fit_task"),
    ],
)
def test_a_base_model_that_cannot_be_trained_says_why(
    scenery: Scenery, family: str, problem: str | None, code: str
) -> None:
    scenery.add_base_model("local/odd", family=family, problem=problem)

    response = scenery.client.post(JOBS, json={"model": "local/odd", "training_file": scenery.upload()["id"]})

    assert response.status_code == 400
    assert error_of(response)["code"] == code
    assert (problem or "whisper") in error_of(response)["message"]


def test_a_job_on_a_file_whose_preparation_failed_fails_naming_the_line(scenery: Scenery) -> None:
    file = scenery.upload()
    error = {"code": "malformed_json", "message": "line 2 is not JSON", "param": None, "data": {"line": 2}}
    scenery.prepare(error=error)

    created = scenery.create_job(training_file=file["id"])
    job = scenery.client.get(f"{JOBS}/{created['id']}").json()

    assert job["status"] == "failed"
    assert job["error"]["code"] == "malformed_json"
    assert job["error"]["param"] == "training_file"
    assert "line 2" in job["error"]["message"]
    assert job["error"]["data"] == {"line": 2}
