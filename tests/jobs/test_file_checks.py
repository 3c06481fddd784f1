"""What is known of a job's files before it takes a device, for each variant of text classification."""

import pytest

from app.catalog.hyperparameters import Hyperparameters
from app.db import transaction
from app.jobs import service
from app.jobs.service import NewJob

MULTI = {"task": "text-classification", "options": {"problem_type": "multi_label_classification"}, "numbers": None}
REGRESSION = {"task": "text-classification", "options": {"problem_type": "regression"}, "labels": None, "rows": 4}


def multi(rows: int, **labels: int) -> dict:
    return MULTI | {"rows": rows, "labels": labels}


def numbers(lowest: float, highest: float) -> dict:
    found = {"min": lowest, "max": highest, "mean": (lowest + highest) / 2, "standard_deviation": highest - lowest}
    return REGRESSION | {"numbers": found}


@pytest.mark.parametrize(
    ("training", "validation", "hyperparameters", "code", "param"),
    [
        (multi(4), None, {}, "no_labels", "training_file"),
        (multi(4, money=4), None, {}, "one_label_only", "training_file"),
        (multi(4, money=4, rent=4), None, {}, "one_label_only", "training_file"),
        (multi(4, money=2), multi(4, rent=1), {}, "unseen_label", "validation_file"),
        (multi(4, money=2), None, {"class_weights": {"rent": 1.0}}, "class_weights_mismatch", None),
        (numbers(2, 2), None, {}, "constant_target", "training_file"),
        (numbers(0, 5), numbers(3, 3), {}, "constant_target", "validation_file"),
        (numbers(0, 5), None, {"class_weights": "balanced"}, "class_weights_without_classes", None),
        (numbers(0, 5), None, {"label_smoothing": 0.1}, "label_smoothing_without_classes", None),
    ],
)
def test_files_that_cannot_be_trained_on_fail_the_job_before_it_waits(
    sessions, caller, settings, upload, starter, training, validation, hyperparameters, code, param
):
    job = create(sessions, caller, settings, starter, upload, training, validation, hyperparameters)
    assert (job.status, job.error["code"]) == ("failed", code)
    assert job.error["param"] == (param or f"hyperparameters.{next(iter(hyperparameters))}")


@pytest.mark.parametrize(
    ("training", "validation", "hyperparameters"),
    [
        (multi(4, money=3), multi(4), {"class_weights": "balanced", "label_smoothing": 0.1}),
        (multi(4, money=4, rent=1), None, {}),
        (numbers(0, 5), numbers(1, 2), {}),
    ],
)
def test_files_that_can_be_trained_on_let_the_job_wait(
    sessions, caller, settings, upload, starter, training, validation, hyperparameters
):
    job = create(sessions, caller, settings, starter, upload, training, validation, hyperparameters)
    assert (job.status, job.error) == ("queued", None)
    assert job.spec["task"] == {"type": training["task"]} | training["options"]


def create(sessions, caller, settings, starter, upload, training, validation, hyperparameters):
    files = {} if validation is None else {"validation_file": upload(report=validation)}
    new = NewJob(starter, upload(report=training), hyperparameters=Hyperparameters(**hyperparameters), **files)
    with transaction(sessions) as session:
        return service.create(session, caller, new, settings)
