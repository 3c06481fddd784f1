"""Evaluations from request to result: real leases, real children, real bytes."""

import json
from dataclasses import replace
from typing import Any

import pytest

from app.catalog.hyperparameters import Hyperparameters
from app.db import transaction
from app.errors import AppError
from app.files import service as files
from app.jobs import comparisons, evaluations, leases, service
from app.jobs.evaluations import NewEvaluation
from app.registry import models
from app.tables import Job
from tests.worker.conftest import TINY, Bench
from worker.relay import Relay

QUICK = Hyperparameters(n_epochs=1, batch_size=4, max_steps=2)


def trained(bench: Bench, file_id: str, **fields: Any) -> Job:
    """A job that has made a model, and was tested on the file that it was trained on."""
    job_id = bench.create(file_id, test_file=file_id, hyperparameters=QUICK, **fields)
    job = bench.run_next("training")
    assert job is not None
    assert (job.id, job.status) == (job_id, "succeeded"), job.error
    return job


def evaluate(bench: Bench, model: str | None, file_id: str, **fields: Any) -> str:
    assert model is not None
    with transaction(bench.context.sessions) as session:
        new = NewEvaluation(model, file_id, **fields)
        evaluation = evaluations.create(session, bench.caller, new, bench.context.settings).id
    while bench.run_next("control"):
        pass
    return evaluation


def evaluated(bench: Bench, model: str | None, file_id: str, **fields: Any) -> Job:
    evaluation = evaluate(bench, model, file_id, **fields)
    job = bench.run_next("training")
    assert job is not None
    assert job.id == evaluation
    return job


def lines(bench: Bench, file_id: str) -> list[dict[str, Any]]:
    with transaction(bench.context.sessions) as session:
        _, blob_id = files.content(session, bench.caller, file_id)
    return [json.loads(line) for line in b"".join(bench.context.blobs.read(blob_id)).splitlines()]


def test_a_fine_tuned_model_its_checkpoint_and_a_file_in_slices(bench: Bench, prepared: str, rows: str):
    job = trained(bench, prepared)
    found = evaluated(bench, job.fine_tuned_model, prepared)
    assert (found.status, found.error, found.attempt) == ("succeeded", None, 1)
    assert found.metrics is not None
    assert job.metrics is not None
    assert {name: found.metrics["metrics"][name] for name in job.metrics["test"]} == job.metrics["test"]
    assert found.seed == job.seed
    assert found.metrics["baseline"]["values"]["accuracy"] == 0.5
    with transaction(bench.context.sessions) as session:
        names = [files.get_file(session, bench.caller.project_id, id_).filename for id_ in found.result_files]
    assert names == [f"{found.id}-predictions.jsonl", f"{found.id}-report.html"]
    predictions = lines(bench, found.result_files[0])
    assert [row["row"] for row in predictions] == list(range(1, 9))
    assert [row["target"] for row in predictions] == [json.loads(line)["label"] for line in rows.splitlines()]
    right = sum(row["target"] == row["prediction"] for row in predictions) / 8
    assert right == found.metrics["metrics"]["accuracy"]
    measured = found.metrics["metrics"]
    assert bench.messages(found.id)[-2:] == [
        f"Evaluated {job.fine_tuned_model}: accuracy={measured['accuracy']:.4g}, f1_macro={measured['f1_macro']:.4g}",
        "The evaluation has successfully completed",
    ]
    assert list(bench.context.settings.runs_dir.iterdir()) == []

    # The last checkpoint has the weights of the model.
    domains = ["film", "film", None, "book", "book", "film", "film", "film"]
    records = [json.loads(line) | {"domain": domain} for line, domain in zip(rows.splitlines(), domains, strict=True)]
    other = bench.upload("".join(json.dumps(record) + "\n" for record in records), "other.jsonl")
    by_domain = {"type": "column", "column": "domain"}
    checkpoint = evaluated(bench, models.checkpoint_id(job.fine_tuned_model or "", 2), other, slice_by=by_domain)
    again = evaluated(bench, job.fine_tuned_model, other, slice_by=by_domain)
    assert (checkpoint.status, again.status) == ("succeeded", "succeeded")
    assert again.metrics is not None
    assert checkpoint.metrics == again.metrics
    assert again.metrics["metrics"] == found.metrics["metrics"]
    slices = again.metrics["slices"]
    assert [(part["slice"], part["rows"]) for part in slices] == [("film", 5), ("book", 2), ("(none)", 1)]
    predictions = lines(bench, again.result_files[0])
    for part in slices:
        right = [row["correct"] for row in predictions if row["slice"] == part["slice"]]
        assert part["metrics"]["accuracy"] == sum(right) / part["rows"]

    with transaction(bench.context.sessions) as session:
        pair = comparisons.load(session, bench.caller, checkpoint.id, again.id, None)
    same = comparisons.compare(pair, bench.context.blobs, seed=1)
    assert (same.rows, same.significant, same.better) == (8, False, None)
    assert "There is no difference between a" in same.verdict
    assert same.mcnemar == {"only_a_right": 0, "only_b_right": 0, "p_value": 1}

    with (
        transaction(bench.context.sessions) as session,
        pytest.raises(AppError, match=f"(?s){found.id}.*{again.id}.*whose contents differ"),
    ):
        comparisons.load(session, bench.caller, found.id, again.id, None)


def test_what_cannot_be_evaluated_says_why(bench: Bench, prepared: str, rows: str):
    job = trained(bench, prepared)
    unknown = bench.upload(rows.replace("negative", "awful"), "unknown.jsonl")
    early = bench.job(evaluate(bench, job.fine_tuned_model, unknown))
    assert (early.status, early.attempt, early.error["code"]) == ("failed", 0, "unknown_labels")
    assert "'awful' (4)" in early.error["message"]
    assert early.error["data"] == {"unknown": {"awful": 4}, "allowed": ["negative", "positive"]}

    # Of a checkpoint no labels are stored: its configuration has them.
    late = evaluated(bench, models.checkpoint_id(job.fine_tuned_model or "", 2), unknown)
    assert (late.status, late.error) == ("failed", early.error | {"message": late.error["message"]})

    misspelt = {"type": "column", "column": "labl"}
    missing = bench.job(evaluate(bench, job.fine_tuned_model, prepared, slice_by=misspelt))
    assert (missing.status, missing.error["code"]) == ("failed", "missing_column")
    assert "name 'label'" in missing.error["message"]

    base = evaluated(bench, TINY, prepared)
    assert (base.status, base.error["code"], base.error["param"]) == ("failed", "model_has_no_head", "model")
    assert "BertModel" in base.error["message"]


def test_one_that_is_drained_lost_and_cancelled(bench: Bench, prepared: str, monkeypatch: pytest.MonkeyPatch):
    job = trained(bench, prepared)
    evaluation = evaluate(bench, job.fine_tuned_model, prepared)
    with transaction(bench.context.sessions) as session:
        with pytest.raises(AppError, match="is used by unfinished jobs"):
            files.delete(session, bench.caller, prepared)
        with pytest.raises(AppError, match="is needed by unfinished jobs"):
            service.delete_model(session, bench.caller, job.fine_tuned_model or "")
    draining = replace(bench.context, draining=type(bench.context.draining)())
    draining.draining.set()
    released = bench.run_next("training", draining)
    assert released is not None
    assert (released.id, released.status, released.attempt) == (evaluation, "queued", 0)
    assert "begins anew" in bench.messages(evaluation)[-1]

    with transaction(bench.context.sessions) as session:
        assert leases.claim(session, owner="lost", queues=["training"], lease=-bench.context.lease)
        leases.reap(session)

    tell = Relay.tell

    def cancel_then_tell(self: Relay, event: Any) -> None:
        if event.message.startswith("Evaluating on"):
            with transaction(bench.context.sessions) as session:
                evaluations.cancel(session, bench.caller, evaluation)
            bench.wait(self._heartbeat.cancelled.is_set)
        tell(self, event)

    monkeypatch.setattr(Relay, "tell", cancel_then_tell)
    cancelled = bench.run_next("training")
    assert cancelled is not None
    assert (cancelled.id, cancelled.status, cancelled.attempt) == (evaluation, "cancelled", 2)
    assert (cancelled.metrics, cancelled.result_files) == (None, [])
