"""A model that Tailor made, downloaded as an archive and registered again, as on another installation."""

import json

from app.catalog.hyperparameters import Hyperparameters
from app.catalog.preprocessing import Preprocessing
from app.catalog.tasks import TASKS
from app.db import transaction
from app.jobs import service
from app.registry import archive, models
from tests.worker.conftest import Bench
from tests.worker.test_evaluations import evaluated
from tests.worker.test_registration import ID, model, register

ROWS = [json.dumps(row) + "\n" for row in TASKS["token-classification"].variants[0].example]
NER = {"type": "token-classification", "head": "crf"}
# A window other than the model's and a precision other than the processor's: evaluations have to be told.
QUICK = Hyperparameters(n_epochs=3, batch_size=4, learning_rate=3e-3, max_length=8, precision="fp32")


def download(bench: Bench, id_: str) -> bytes:
    with transaction(bench.context.sessions) as session:
        parts = archive.segments(models.files(session, id_), 1_700_000_000)
    return b"".join(archive.read(parts, bench.context.blobs, 0, sum(part.size for part in parts)))


def labels_of(bench: Bench, id_: str) -> list[str] | None:
    found = model(bench, id_)
    assert found is not None
    return found.labels


def forget(bench: Bench, id_: str) -> None:
    with transaction(bench.context.sessions) as session:
        service.delete_model(session, bench.caller, id_)


def test_it_scores_as_it_did_in_the_job_that_made_it(bench: Bench):
    file_id = bench.upload("".join(ROWS), "sentences.jsonl")
    cleaned = Preprocessing(lowercase=True)
    bench.create(file_id, test_file=file_id, hyperparameters=QUICK, task=NER, preprocessing=cleaned, seed=3)
    first = bench.run_next("training")
    assert first is not None
    assert first.metrics is not None
    assert first.fine_tuned_model is not None
    labels = labels_of(bench, first.fine_tuned_model)
    packed = download(bench, first.fine_tuned_model)
    assert b"modeling_crf.py" in packed
    assert b"preprocessing.py" in packed
    forget(bench, first.fine_tuned_model)

    register(bench, packed, "model.tar")
    registration = bench.run_next("control")
    assert registration is not None
    assert (registration.status, registration.error) == ("succeeded", None)
    assert any("put in anew" in message for message in bench.messages(registration.id))
    found = model(bench)
    assert found is not None
    assert (found.kind, found.task, found.labels) == ("base", "token-classification", labels)
    assert found.source is not None
    assert found.source["left_out"] == []
    assert found.source["rewritten"] == ["modeling_crf.py", "preprocessing.py"]
    assert found.source["trained"]["max_length"] == 8

    again = evaluated(bench, ID, file_id)
    assert (again.error, again.seed) == (None, 3)
    assert again.metrics is not None
    assert {name: again.metrics["metrics"][name] for name in first.metrics["test"]} == first.metrics["test"]
