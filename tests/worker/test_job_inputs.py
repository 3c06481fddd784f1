"""From a job that names further files and models to the run directory of its child: real files, really read."""

import json
import threading
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from app.catalog.adaptation.spec import FileId, MethodOptions, MethodSpec, ModelId, NeededFile, NeededModel
from app.catalog.methods import METHODS
from app.db import transaction
from app.jobs import service
from app.settings import Settings
from app.tables import Job, Model
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


def texts(run_dir: Path, path: str) -> list[str]:
    return pq.read_table(run_dir / path).column("text").to_pylist()


def test_the_run_directory_holds_the_texts_of_target_files_and_of_methods(bench: Bench, prepared: str, tmp_path: Path):
    target = [bench.upload(PLAIN, "notes.txt"), bench.upload(LABELLED)]
    corpus = bench.upload("A corpus of the domain.\n", "corpus.txt")
    job_id = bench.create(prepared, target_files=target, adaptation={"continued_pretraining": {"files": [corpus]}})
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


@pytest.mark.parametrize("name", ["words.jsonl", "words.conll"])
def test_a_target_file_of_tagged_words_fails_the_job_with_what_it_should_hold(bench: Bench, prepared: str, name: str):
    content = WORDS if name.endswith("l") and "json" in name else "Ada B-PER\nwrote O\n\n"
    job = bench.job(bench.create(prepared, target_files=[bench.upload(content, name)]))

    assert (job.status, job.error["code"], job.error["param"]) == ("failed", "wrong_task", "target_files[0]")
    assert f"({name})" in job.error["message"]
    assert "plain text, or a column `text`" in job.error["message"]


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
    bench: Bench, rows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(METHODS, PROBE.name, PROBE)
    training, other = bench.upload(rows), bench.upload(json.dumps({"text": "x", "label": "negative"}) + "\n" + rows)
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
