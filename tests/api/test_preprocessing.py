"""`preprocessing` of a job: shown with every default, refused by name, and asked of the file's preparation."""

from typing import Any

import pytest

from app.catalog.preprocessing import Preprocessing
from app.db import transaction
from app.tables import Job, Preparation
from tests.api.scenery import Scenery
from tests.api.test_access import error_of

JOBS = "/v1/fine_tuning/jobs"


def test_a_job_shows_what_will_be_done_with_every_default(scenery: Scenery) -> None:
    job = scenery.create_job(seed=13, preprocessing={"lowercase": True, "split": {"test": 0.2}})
    assert job["preprocessing"] == {
        "strip_html": False,
        "unicode_normalization": None,
        "lowercase": True,
        "stop_words": None,
        "collapse_whitespace": False,
        "deduplicate": None,
        "split": {"validation": 0.1, "test": 0.2, "group": None, "stratify": True, "seed": 13},
    }
    assert scenery.client.get(f"{JOBS}/{job['id']}").json()["preprocessing"] == job["preprocessing"]
    assert scenery.create_job()["preprocessing"] is None


def test_a_seed_of_the_split_is_kept_and_a_drawn_one_is_shown(scenery: Scenery) -> None:
    assert scenery.create_job(seed=13, preprocessing={"split": {"seed": 7}})["preprocessing"]["split"]["seed"] == 7
    job = scenery.create_job(preprocessing={"split": {}})
    assert job["preprocessing"]["split"]["seed"] == job["seed"]


REFUSALS: list[tuple[dict[str, Any], str, str, str]] = [
    ({"preprocessing": {"lower_case": True}}, "unknown_field", "preprocessing.lower_case", "'lowercase'"),
    ({"preprocessing": {"split": {"valid": 0.1}}}, "unknown_field", "preprocessing.split.valid", "'validation'"),
    (
        {"preprocessing": {"unicode_normalization": "NFD"}},
        "invalid_value",
        "preprocessing.unicode_normalization",
        'give "NFC" or "NFKC"',
    ),
    ({"preprocessing": {"stop_words": "zh"}}, "invalid_value", "preprocessing.stop_words", '"zh"; give "af", "ar"'),
    ({"preprocessing": {"stop_words": []}}, "invalid_value", "preprocessing.stop_words", "1 to 10,000"),
    ({"preprocessing": {"stop_words": ["as well"]}}, "invalid_value", "preprocessing.stop_words[0]", "as well"),
    ({"preprocessing": {"strip_html": "yes"}}, "invalid_value", "preprocessing.strip_html", "true or false"),
    ({"preprocessing": {"deduplicate": True}}, "invalid_value", "preprocessing.deduplicate", '"across_splits"'),
    ({"preprocessing": {"split": {"test": 1}}}, "invalid_value", "preprocessing.split.test", "below 1"),
    (
        {"preprocessing": {"split": {"validation": 0.6, "test": 0.5}}},
        "invalid_value",
        "preprocessing.split",
        "add up to 1.1",
    ),
    ({"preprocessing": {"split": {"validation": 0}}}, "invalid_value", "preprocessing.split", "add up to 0"),
    (
        {"task": {"type": "token-classification"}, "preprocessing": {"stop_words": "en"}},
        "preprocessing_does_not_fit_task",
        "preprocessing.stop_words",
        "what fits is unicode_normalization, lowercase",
    ),
    (
        {"task": {"type": "question-answering"}, "preprocessing": {"lowercase": True}},
        "preprocessing_does_not_fit_task",
        "preprocessing.lowercase",
        "answers are places in a text",
    ),
]


@pytest.mark.parametrize(("fields", "code", "param", "part"), REFUSALS)
def test_what_cannot_be_done_is_refused_by_name_with_what_can(
    scenery: Scenery, fields: dict[str, Any], code: str, param: str, part: str
) -> None:
    body = {"model": "starter/minilm-l6", "training_file": scenery.upload()["id"]} | fields
    response = scenery.client.post(JOBS, json=body)
    assert response.status_code == 400
    error = error_of(response)
    assert (error["code"], error["param"]) == (code, param), error
    assert part in error["message"]
    assert scenery.count(Job) == 1  # the file's preparation


@pytest.mark.parametrize("name", ["validation", "test"])
def test_a_part_of_the_training_file_and_a_file_for_the_same_are_one_too_many(scenery: Scenery, name: str) -> None:
    files = {"training_file": scenery.upload()["id"], f"{name}_file": scenery.upload(filename="other.jsonl")["id"]}
    split = {"validation": 0.1, "test": 0.1}
    body = {"model": "starter/minilm-l6", "preprocessing": {"split": split}} | files
    response = scenery.client.post(JOBS, json=body)
    assert response.status_code == 400
    assert f"{name}_file and preprocessing.split.{name} 0.1 were both given" in error_of(response)["message"]
    body["preprocessing"] = {"split": split | {name: 0}}
    assert scenery.client.post(JOBS, json=body).status_code == 200


def test_the_column_that_a_split_groups_by_is_kept_of_the_training_file_alone(scenery: Scenery) -> None:
    train, test = scenery.upload()["id"], scenery.upload(filename="test.jsonl")["id"]
    scenery.create_job(training_file=train, test_file=test, preprocessing={"split": {"group": "site"}})
    with transaction(scenery.sessions) as session:
        extras = {(row.file_id, *row.extras) for row in session.query(Preparation)}
    assert extras == {(train,), (test,), (train, "site")}


def test_an_operation_that_does_not_fit_what_the_file_turns_out_to_be_fails_the_job_before_it_waits(
    scenery: Scenery,
) -> None:
    job = scenery.create_job(preprocessing={"strip_html": True})
    report = {"task": "token-classification", "options": {}, "rows": 2, "labels": {"PER": 1}}
    scenery.prepare(report)
    job = scenery.client.get(f"{JOBS}/{job['id']}").json()
    assert job["status"] == "failed"
    assert job["error"]["code"] == "preprocessing_does_not_fit_task"
    assert job["error"]["param"] == "preprocessing.strip_html"
    assert "what fits is unicode_normalization, lowercase" in job["error"]["message"]


def test_the_catalogue_shows_the_schema_with_defaults_and_an_example_that_is_valid(client) -> None:
    catalog = client.get("/v1/catalog").json()
    schema = catalog["preprocessing"]
    assert set(schema["properties"]) == set(Preprocessing.model_fields)
    assert schema["properties"]["strip_html"]["default"] is False
    assert all(field["description"] for field in schema["properties"].values())
    (example,) = schema["examples"]
    assert Preprocessing.model_validate(example).split is not None
    by_task = {task["name"]: task["variants"][0]["preprocessing"] for task in catalog["tasks"]}
    assert by_task["token-classification"] == ["unicode_normalization", "lowercase"]
    assert by_task["question-answering"] == []
    assert "stop_words" in by_task["text-classification"]
