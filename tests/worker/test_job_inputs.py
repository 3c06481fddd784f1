"""From a job that names further files and models to the run directory of its child: real files, really read."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from sqlalchemy import select

from app.catalog.adaptation.spec import FileId, MethodOptions, MethodSpec, ModelId, NeededFile, NeededModel
from app.catalog.methods import METHODS
from app.db import transaction
from app.files import service as files
from app.files.service import NewFile
from app.jobs import service
from app.settings import Settings
from app.storage.blobs import put
from app.tables import Job, Model, Preparation
from tests.worker.conftest import TINY, Bench
from worker.context import WorkerContext
from worker.kinds import UnusableJobError
from worker.kinds.fine_tuning import FineTuningKind
from worker.process import Standby
from worker.tick import Rounds

PLAIN = "Aspirin was given twice a day.\n\nNo adverse events were seen.\n"
LABELLED = '{"text": "Blood pressure fell.", "label": "good", "text_pair": "a second text"}\n'
WORDS = '{"tokens": ["Ada", "wrote"], "ner_tags": ["B-PER", "O"]}\n'


@pytest.fixture
def context(settings: Settings, sessions, blobs, base_models_dir: Path) -> WorkerContext:
    """A worker's that reads files and trains nothing."""
    here = settings.model_copy(update={"base_models_dir": base_models_dir})
    standby = Standby(enabled=False)
    context = WorkerContext(here, sessions, blobs, "test-worker", threading.Event(), standby, lambda _: None)
    Rounds(context).scan()
    return context


@pytest.fixture
def upload(bench: Bench) -> Callable[[str, str], str]:
    """Upload a file that only a job's asking has read: each reading is a process of its own."""

    def do(text: str, name: str) -> str:
        blob = put(bench.context.blobs, [text.encode()])
        with transaction(bench.context.sessions) as session:
            new = NewFile(name, "user_data", blob)
            return files.create(session, bench.caller, new, bench.context.settings).id

    return do


def texts(run_dir: Path, path: str) -> list[str]:
    return pq.read_table(run_dir / path).column("text").to_pylist()


def test_the_run_directory_holds_the_texts_of_target_files_and_of_methods(
    bench: Bench, rows: str, upload: Callable[[str, str], str], tmp_path: Path
):
    target = [upload(PLAIN, "notes.txt"), upload(LABELLED, "labelled.jsonl")]
    corpus = upload("A corpus of the domain.\n", "corpus.txt")
    training = upload(rows, "reviews.jsonl")
    job_id = bench.create(training, target_files=target, adaptation={"continued_pretraining": {"files": [corpus]}})
    job = bench.job(job_id)
    assert (job.status, job.error) == ("queued", None)

    plan = FineTuningKind().lay_out(bench.context, job, tmp_path)

    assert [file.file_id for file in plan.target] == target
    assert [texts(tmp_path, file.path) for file in plan.target] == [
        ["Aspirin was given twice a day.", "No adverse events were seen."],
        ["Blood pressure fell."],
    ]
    assert set(plan.method_files) == {"continued_pretraining.files.0"}
    named = plan.method_files["continued_pretraining.files.0"]
    assert (named.file_id, named.filename, named.rows) == (corpus, "corpus.txt", 1)
    assert texts(tmp_path, named.path) == ["A corpus of the domain."]


def test_a_target_file_of_tagged_words_fails_the_job_with_what_it_should_hold(
    bench: Bench, rows: str, upload: Callable[[str, str], str]
):
    words = upload(WORDS, "words.jsonl"), upload("Ada B-PER\nwrote O\n\n", "words.conll")
    job = bench.job(bench.create(upload(rows, "reviews.jsonl"), target_files=words))

    assert (job.status, job.error["code"], job.error["param"]) == ("failed", "wrong_task", "target_files[0]")
    assert f"target_files[0] {words[0]} (words.jsonl): " in job.error["message"]
    assert "plain text, or records with a column `text`" in job.error["message"]
    with transaction(bench.context.sessions) as session:
        columns = session.scalars(select(Preparation).where(Preparation.file_id == words[1])).one()
    assert columns.error["code"] == "wrong_task"


class ProbeOptions(MethodOptions):
    """A method with a file that is read as the job's task, and a model."""

    file: FileId
    model: ModelId


PROBE = MethodSpec(
    name="probe",
    title="Probe",
    options=ProbeOptions,
    impl="worker.methods.full:FullFineTuning",
    files=lambda options, task: (NeededFile("probe.file", options.file, task),),
    models=lambda options: (NeededModel("probe.model", options.model, "fill-mask"),),
)


def test_models_of_methods_are_brought_and_one_that_is_gone_is_named(
    bench: Bench, rows: str, upload: Callable[[str, str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(METHODS, PROBE.name, PROBE)
    training = upload(rows, "reviews.jsonl")
    other = upload(json.dumps({"text": "x", "label": "negative"}) + "\n" + rows, "others.jsonl")
    adaptation = {"probe": {"file": other, "model": TINY}}
    job = bench.job(bench.create(training, adaptation=adaptation))
    assert (job.status, job.error) == ("queued", None)

    plan = FineTuningKind().lay_out(bench.context, job, tmp_path / "one")

    assert set(plan.method_models) == {"probe.model"}
    assert (tmp_path / "one" / plan.method_models["probe.model"] / "config.json").is_file()
    records = pq.read_table(tmp_path / "one" / plan.method_files["probe.file"].path)
    assert records.column("label").to_pylist()[0] == "negative"
    assert records.num_rows == plan.train.rows + 1

    with transaction(bench.context.sessions) as session:
        session.add(Model(id="ft:a:b:c:1", kind="fine_tuned", project_id=job.project_id, task="fill-mask", bytes=0))
    adaptation = {"probe": {"file": other, "model": "ft:a:b:c:1"}}
    job = bench.job(bench.create(training, adaptation=adaptation))
    with pytest.raises(UnusableJobError) as unusable:
        FineTuningKind().lay_out(bench.context, job, tmp_path / "two")
    assert (unusable.value.failure.code, unusable.value.failure.param) == ("model_unusable", "adaptation.probe.model")
    with transaction(bench.context.sessions) as session:
        assert session.query(Job).filter(Job.status == "validating_files").all() == []
        service.cancel(session, bench.caller, job.id)
