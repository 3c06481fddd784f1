"""An evaluation of a job's model gives the very numbers that the job gave, for every task of the catalogue."""

import json
import tarfile
import threading
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from accelerate.state import AcceleratorState, GradientState
from transformers import AutoTokenizer, BertForTokenClassification

from app.catalog.measures import Statistics
from app.catalog.plan import EvaluationPlan, PreparationLimits, RegistrationPlan
from app.catalog.slices import LengthSlices
from app.catalog.tasks import TASKS
from app.comparison.paired import System, differences
from app.model_files.check import CheckedModel, check
from tests.contract.probes import PROBES, Probe
from tests.contract.tiny import Outcome, make_plan, train, write_records
from worker.evaluation.run import run
from worker.evaluation.slices import cut
from worker.protocol import Checkpoint, Event, Result, Started
from worker.python_files import PYTHON_FILES
from worker.training.data import read_records
from worker.training.failures import UserError


class Page(HTMLParser):
    """What a page shows, and the elements that it leaves open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.text = ""

    @classmethod
    def of(cls, path: Path) -> "Page":
        page = cls()
        page.feed(path.read_text("utf-8"))
        return page

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag not in ("script", "link", "img")
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


each_probe = pytest.mark.parametrize("probe", PROBES, ids=str)


def evaluate(
    trained: Outcome | None, model: Path, run_dir: Path, probe: Probe, rows: list[dict[str, Any]], **fields: Any
):
    """Evaluate a directory as the supervisor would have it done, and return the result."""
    AcceleratorState._reset_state(reset_partial_state=True)  # pyright: ignore[reportPrivateUsage]
    GradientState._reset_state()  # pyright: ignore[reportPrivateUsage]
    (run_dir / "data").mkdir(parents=True)
    (run_dir / "model").symlink_to(model, target_is_directory=True)
    started = trained.of(Started)[0].hyperparameters if trained else {}
    known = {name: started.get(name) for name in ("max_length", "precision")}
    plan = EvaluationPlan(
        job_id="eval-test",
        attempt=1,
        model="ft:tiny:test",
        directory="model",
        data=write_records(run_dir, "test", rows, probe.variant.fields),
        **({"seed": 5, "task": probe.task} | known | fields),
    )
    events: list[Event] = []
    run(plan, run_dir, events.append, threading.Event())
    [result] = [event for event in events if isinstance(event, Result)]
    return result


def predictions(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "predictions.jsonl").read_text("utf-8").splitlines()]


def come_back(artifact: Path, run_dir: Path) -> CheckedModel:
    """Pack a job's artifact as a client who downloads it has it, and register the archive."""
    run_dir.mkdir()
    with tarfile.open(run_dir / "source", "w") as archive:
        for path in artifact.iterdir():
            archive.add(path, path.name)
    limits = PreparationLimits(
        max_decompressed_bytes=1 << 30, max_row_bytes=1 << 20, memory_bytes=1 << 34, timeout_s=60
    )
    plan = RegistrationPlan(
        job_id="regjob", attempt=1, source="source", filename="model.tar", model="@default/m", limits=limits
    )
    return check(plan, run_dir, lambda _: None, PYTHON_FILES)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@each_probe
def test_a_model_on_its_own_test_file_has_the_metrics_of_its_job_also_where_it_was_downloaded_and_registered_again(
    probe: Probe, tiny_bases: dict[str, Path], tmp_path: Path
) -> None:
    rows = probe.rows + probe.odd_rows
    plan = make_plan(
        tmp_path / "job",
        tiny_bases[probe.base],
        rows,
        probe.rows,
        rows,
        task=probe.task,
        n_epochs=3,
        batch_size=4,
        learning_rate=3e-3,
        max_length=24,
    )
    trained = train(plan, tmp_path / "job")
    artifact = tmp_path / "job" / "artifact"

    returned = come_back(artifact, tmp_path / "registration")
    directory = tmp_path / "registration" / returned.path
    assert contents(directory) == contents(artifact)
    assert returned.trained is not None
    assert returned.trained.labels == trained.result.labels
    asked = returned.trained.model_dump(exclude={"labels"})
    result = evaluate(None, directory, tmp_path / "evaluation", probe, rows, **asked)

    theirs, ours = trained.result.metrics["test"], result.metrics["metrics"]
    assert {name: ours[name] for name in theirs} == theirs
    assert ours["rows"] == len(rows)
    assert [row["row"] for row in predictions(tmp_path / "evaluation")] == list(range(1, len(rows) + 1))

    shown = Page.of(tmp_path / "evaluation" / "report.html")
    assert shown.open == []
    assert {"Metrics"} | ({"Calibration"} if "calibration" in ours else set()) <= set(shown.headings)

    # The statistics of rows give the same metrics again.
    meaning = Statistics.model_validate(result.metrics["statistics"])
    system = System(np.load(tmp_path / "evaluation" / "statistics.npy"), meaning)
    measured = differences(system, system, seed=1)
    assert [found.name for found in measured] == [measure.name for measure in meaning.measures]
    for found in measured:
        assert found.a == pytest.approx(theirs[found.name], abs=1e-9)
        assert (found.difference, found.p_value) == (0, 1)
        assert found.interval == pytest.approx((0, 0), abs=1e-9 * max(1, abs(found.a)))

    baseline = result.metrics["baseline"]
    assert baseline is None or set(baseline["values"]) <= set(theirs)


def test_texts_are_cleaned_as_in_training_and_merged_weights_give_the_same(tiny_encoder: Path, tmp_path: Path) -> None:
    """A checkpoint does not say how texts are cleaned; the job that made it does."""
    [probe] = [probe for probe in PROBES if probe.task.get("problem_type") == "multi_label_classification"]
    rows = [row | {"text": f"<p>{row['text'].upper()}</p>"} for row in probe.rows]
    cleaning = {"strip_html": True, "lowercase": True}
    plan = make_plan(
        tmp_path / "job",
        tiny_encoder,
        rows,
        rows,
        rows,
        task=probe.task,
        adaptation={"lora": {"r": 2}},
        preprocessing=cleaning,
        n_epochs=2,
        batch_size=4,
        learning_rate=3e-3,
    )
    trained = train(plan, tmp_path / "job")
    theirs = trained.result.metrics["test"]
    best = next(
        point for point in reversed(trained.of(Checkpoint)) if point.step == trained.result.metrics["best_step"]
    )
    for place, said in (("artifact", None), (best.model_path, cleaning)):
        result = evaluate(
            trained, tmp_path / "job" / place, tmp_path / f"{said is None}", probe, rows, preprocessing=said
        )
        found = {name: result.metrics["metrics"][name] for name in theirs}
        # The artifact has the matrices merged into the weights, which rounds them.
        assert found | {"loss": theirs["loss"]} == theirs
        assert found["loss"] == pytest.approx(theirs["loss"], rel=1e-6)


def test_a_head_that_was_trained_elsewhere_keeps_its_own_labels(tiny_encoder: Path, tmp_path: Path) -> None:
    """Tags in another order, no seed, no window and no precision known: still the model's own predictions."""
    [probe] = [probe for probe in PROBES if probe.task.get("head") == "linear"]
    tags = ["I-LOC", "B-LOC", "O", "B-PER", "I-PER", "I-ORG", "B-ORG"]
    torch.manual_seed(3)
    model = BertForTokenClassification.from_pretrained(
        tiny_encoder, id2label=dict(enumerate(tags)), label2id={tag: index for index, tag in enumerate(tags)}
    )
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    run_dir = tmp_path / "evaluation"
    known = {"max_length": None, "precision": "fp32", "task": {"type": "token-classification"}}

    evaluate(None, tmp_path / "model", run_dir, probe, probe.rows, **known)

    for row in predictions(run_dir):
        inputs = tokenizer(probe.rows[row["row"] - 1]["tokens"], is_split_into_words=True, return_tensors="pt")
        with torch.inference_mode():
            scores = model(**inputs).logits[0].softmax(dim=1)
        places = [inputs.word_ids().index(word) for word in range(len(row["target"]))]
        assert row["prediction"] == [tags[int(scores[place].argmax())] for place in places]
        assert row["confidences"] == pytest.approx([float(scores[place].max()) for place in places], abs=1e-5)


@pytest.mark.parametrize(
    ("name", "rows", "task", "code"),
    [
        ("BertModel", [{"text": "a", "label": "b"}], {"type": "text-classification"}, "model_has_no_head"),
        ("BertModel", [{"tokens": ["a"], "tags": ["O"]}], {"type": "token-classification"}, "model_has_no_head"),
        (
            "BertForSequenceClassification",
            [{"text": "a", "label": 2.5}],
            {"type": "text-classification", "problem_type": "regression"},
            "model_of_other_variant",
        ),
        (
            "BertForSequenceClassification",
            [{"text": "a", "label": "positive"}, {"text": "b", "label": "LABEL_0"}],
            {"type": "text-classification", "problem_type": "single_label_classification"},
            "unknown_labels",
        ),
        (
            "BertForTokenClassification",
            [{"tokens": ["a"], "tags": ["O"]}],
            {"type": "token-classification"},
            "labels_not_iob2",
        ),
    ],
)
def test_what_a_model_cannot_be_asked_is_refused_by_name(
    name: str, rows: list[dict[str, Any]], task: dict[str, Any], code: str, tiny_encoder: Path, tmp_path: Path
) -> None:
    getattr(transformers, name).from_pretrained(tiny_encoder).save_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(tiny_encoder).save_pretrained(tmp_path / "model")
    probe = next(probe for probe in PROBES if probe.variant == TASKS[task["type"]].variant(task))
    with pytest.raises(UserError) as refused:
        evaluate(None, tmp_path / "model", tmp_path / "evaluation", probe, rows, task=task, max_length=None)
    assert refused.value.code == code
    if code == "unknown_labels":
        assert refused.value.data == {"unknown": {"positive": 1}, "allowed": ["LABEL_0", "LABEL_1"]}


def test_slices_by_length_hold_every_record_once_and_about_as_many_each(tiny_encoder: Path, tmp_path: Path) -> None:
    texts = [" ".join(["film"] * length) for length in (1, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9)]
    rows = [{"text": text, "text_pair": "film" if text == "film" else None, "label": "a"} for text in texts]
    fields = TASKS["text-classification"].variants[0].fields
    (tmp_path / "data").mkdir()
    records = read_records("test", write_records(tmp_path, "test", rows, fields), tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    found = cut(records, LengthSlices(type="length", bins=3), fields, tokenizer)
    assert [(part.name, part.rows.tolist()) for part in found.slices] == [
        ("2 tokens", [0, 1, 2, 3, 4]),  # a pair of one word each is as long as two words
        ("3 to 5 tokens", [5, 6, 7]),
        ("6 to 9 tokens", [8, 9, 10, 11]),
    ]
    assert found.names == ["2 tokens"] * 5 + ["3 to 5 tokens"] * 3 + ["6 to 9 tokens"] * 4
    assert len(cut(records.take(np.arange(4)), LengthSlices(type="length", bins=3), fields, tokenizer).slices) == 1
