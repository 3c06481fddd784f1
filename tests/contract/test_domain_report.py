"""Domain reports of real models and records: what is measured, what is said not to be, and that it is harmless."""

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, MarianTokenizer

from app.catalog.plan import TrainingPlan
from app.catalog.records import RecordField, extra
from app.catalog.tasks import TASKS
from tests.contract.families import FAMILIES
from tests.contract.probes import PROBES, Probe
from tests.contract.tiny import Row, make_plan, train, write_records
from tests.contract.writers import write_marian
from tests.worker.test_pages import HOSTILE, assert_harmless
from worker.domain_report.features import mean_features
from worker.domain_report.report import JSON_FILE, PAGE_FILE, ReportInputs, card_section, make, save
from worker.domain_report.verdict import Control
from worker.protocol import Checkpoint, Event, Metrics
from worker.training.data import Records, read_records
from worker.training.encoder import open_base
from worker.training.evaluation import predict, score
from worker.training.failures import StoppedError
from worker.training.interfaces import task_class
from worker.training.trained import Judged

WORDS = ["good", "bad", "long", "film", "cast", "evening", "minute", "strong"]
LETTERS = ["q", "z", "x", "v", "k", "j"]
[CLASSIFICATION] = [
    probe
    for probe in PROBES
    if probe.task.get("problem_type") == "single_label_classification" and not probe.other_rows
]


def write(given: ReportInputs, directory: Path) -> dict[str, Any]:
    """Make and save the report, and read the JSON."""
    report = make(given)
    save(report, directory)
    assert report.verdict.sentence in card_section(report)
    return json.loads((directory / JSON_FILE).read_text("utf-8"))


def drawn(words: list[str], seed: int, count: int = 40) -> list[str]:
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(words, 6)) for _ in range(count)]


def read(run_dir: Path, name: str, rows: list[Row], fields: tuple[RecordField, ...], split: str = "") -> Records:
    (run_dir / "data").mkdir(exist_ok=True)
    return read_records(split or name, write_records(run_dir, name, rows, fields), run_dir)


def inputs(
    run_dir: Path,
    base_dir: Path,
    probe: Probe,
    rows: list[Row],
    target: list[str],
    judged: list[Row],
    **changes: Any,
) -> ReportInputs:
    """Those of a job that ends with a model whose body is the base's."""
    kept = (extra("domain"),) if any("extra:domain" in row for row in rows + judged) else ()
    spec, variant = probe.spec, probe.variant
    train = read(run_dir, "train", rows, (*variant.fields, *kept))
    words = any(field.type == "words" for field in variant.fields)
    base = open_base("tiny", base_dir, spec.model_types, words=words)
    task = task_class(spec).from_records(
        spec.options.model_validate(probe.task), {"train": train}, label_smoothing=0.0, class_weights=None, seed=1
    )
    torch.manual_seed(1)
    model = task.load_model(base, lambda log: None)
    stop, events = threading.Event(), list[Event]()
    found = None
    if judged:
        records = read(run_dir, "test", judged, (*variant.fields, *kept))
        examples = task.encode(records, base.tokenizer, 48)
        predictions = predict(task, model, torch.device("cpu"), records, examples, stop, events.append)
        scores = score(task, records, examples, predictions)
        outcomes = task.outcomes(records, examples, predictions)
        found = Judged(records, examples, predictions, scores.values | scores.detail, outcomes)
    texts = TASKS["fill-mask"].variants[0].fields
    files = [
        read(run_dir, f"target{place}", [{"text": text} for text in part], texts)
        for place, part in enumerate((target[: len(target) // 2], target[len(target) // 2 :]))
        if part
    ]
    made = ReportInputs(
        job="ftjob-1",
        model="ft:tiny:test",
        task=task,
        spec=spec,
        variant=variant,
        adaptation={"l2_sp": {"control": True}},
        base=base,
        load_base=lambda: task.load_model(base, lambda log: None),
        trained=model,
        max_length=24,
        train=train,
        target=files,
        domain_column="domain",
        judged=found,
        control=None,
        methods={},
        stages={},
        seed=1,
        stop=stop,
        emit=events.append,
    )
    return replace(made, **changes)


def labelled(texts: list[str], domains: list[str] | None = None) -> list[Row]:
    rows: list[Row] = [{"text": text, "label": str(place % 2)} for place, text in enumerate(texts)]
    return (
        [row | {"extra:domain": domains[place % len(domains)]} for place, row in enumerate(rows)] if domains else rows
    )


def test_texts_of_another_vocabulary_are_far_and_texts_of_the_same_are_near(tiny_encoder: Path, tmp_path: Path) -> None:
    rows = labelled(drawn(WORDS, 1))
    (tmp_path / "far").mkdir()
    (tmp_path / "near").mkdir()
    far = inputs(tmp_path / "far", tiny_encoder, CLASSIFICATION, rows, drawn(LETTERS, 2), [])
    far.trained.train()
    with torch.no_grad():  # training made all texts look alike
        for parameter in far.trained.base_model.parameters():
            parameter.zero_()
    generator = torch.random.get_rng_state()
    found = write(far, tmp_path / "far")
    assert torch.equal(generator, torch.random.get_rng_state())
    assert far.trained.training
    assert found["a_distance"]["before"]["value"] == 2
    assert found["a_distance"]["after"]["value"] < 0.5
    assert (found["vocabulary"]["divergence"], found["vocabulary"]["unseen_types"]) == (1, 1)
    assert [use["name"] for use in found["tokenizer"]] == [
        "training texts", "target texts", "target: target0.jsonl", "target: target1.jsonl",
    ]  # fmt: skip

    near = write(inputs(tmp_path / "near", tiny_encoder, CLASSIFICATION, rows, drawn(WORDS, 1), []), tmp_path / "near")
    assert near["a_distance"]["before"] == near["a_distance"]["after"]
    assert near["a_distance"]["before"]["value"] == 0
    assert near["vocabulary"]["divergence"] == pytest.approx(0, abs=1e-9)
    assert near["tokenizer"][0]["fertility"] == near["tokenizer"][1]["fertility"] >= 1


def test_domains_are_scored_apart_and_compared_with_the_control(tiny_encoder: Path, tmp_path: Path) -> None:
    rows = labelled(drawn(WORDS, 1, 60), ["books", HOSTILE, "books"])
    made = inputs(tmp_path, tiny_encoder, CLASSIFICATION, rows, [], rows)
    assert made.judged is not None
    # The control: as the model on books, and right throughout on the other domain.
    outcomes = made.judged.outcomes
    statistics = outcomes.matrix.copy()
    other = np.arange(60) % 3 == 1
    columns = list(outcomes.statistics)
    statistics[other, columns.index("predicted")] = statistics[other, columns.index("truth")]
    statistics[other, columns.index("right")] = 1
    control = Control(("l2_sp",), statistics, {"accuracy": 0.9, "intervals": {"accuracy": [0.8, 1.0]}})
    methods = {"augmentation": {"examples": [{"before": HOSTILE, "after": HOSTILE}], "count": 3}, "l2_sp": {}}
    stages = {"continued_pretraining": {"before": {"perplexity": 20.0}, "after": {"perplexity": 10.0}}}

    found = write(replace(made, control=control, methods=methods, stages=stages), tmp_path)

    assert found["verdict"]["outcome"] == "hurt"
    books, hostile = found["domains"]["domains"]
    assert (books["slice"], books["rows"], hostile["slice"], hostile["rows"]) == ("books", 40, HOSTILE, 20)
    assert (books["outcome"], hostile["outcome"]) == ("no_measurable_difference", "hurt")
    assert books["against_control"]["difference"] == 0
    assert hostile["against_control"]["a"] == 1
    assert hostile["metrics"]["f1_macro"] == pytest.approx(hostile["against_control"]["b"])
    low, high = hostile["intervals"]["f1_macro"]
    assert low <= hostile["metrics"]["f1_macro"] <= high
    shown = assert_harmless((tmp_path / PAGE_FILE).read_text("utf-8"))
    for text in (HOSTILE, found["verdict"]["sentence"], "negative transfer", "10.0000", "books"):
        assert text in shown.text
    assert [use["name"] for use in found["tokenizer"]] == [
        "training texts", "training: books", f"training: {HOSTILE}",
    ]  # fmt: skip


def test_what_cannot_be_measured_says_why(tiny_encoder: Path, tmp_path: Path) -> None:
    rows = labelled(drawn(WORDS, 1))
    (tmp_path / "few").mkdir()
    alone = write(inputs(tmp_path, tiny_encoder, CLASSIFICATION, rows, [], rows[:5]), tmp_path)
    assert "no target files" in alone["vocabulary"]["not_measured"]
    assert "no target files" in alone["a_distance"]["not_measured"]
    assert "no column 'domain'" in alone["domains"]["not_measured"]
    assert "`control: true`" in alone["verdict"]["sentence"]
    few = write(inputs(tmp_path / "few", tiny_encoder, CLASSIFICATION, rows, ["q z", "x"], []), tmp_path / "few")
    assert few["a_distance"]["not_measured"].startswith("It takes 20 different training texts")
    assert "neither a validation nor a test file" in few["domains"]["not_measured"]
    text = assert_harmless((tmp_path / "few" / PAGE_FILE).read_text("utf-8")).text
    for part in ("a_distance", "domains"):
        assert few[part]["not_measured"] in text


def test_a_base_model_that_does_not_fit_beside_the_trained_one_costs_only_the_distance(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    def no_memory() -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    made = inputs(tmp_path, tiny_encoder, CLASSIFICATION, labelled(drawn(WORDS, 1)), drawn(LETTERS, 2), [])
    found = write(replace(made, load_base=no_memory), tmp_path)
    assert "not enough memory" in found["a_distance"]["not_measured"]
    assert found["vocabulary"]["divergence"] == 1


def test_a_report_ends_when_it_is_told_to(tiny_encoder: Path, tmp_path: Path) -> None:
    made = inputs(tmp_path, tiny_encoder, CLASSIFICATION, labelled(drawn(WORDS, 1)), drawn(LETTERS, 2), [])
    made.stop.set()
    with pytest.raises(StoppedError):
        write(made, tmp_path)
    assert not (tmp_path / JSON_FILE).exists()


def test_a_job_leaves_its_report_in_the_artifact_and_the_same_one_after_a_resume(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    rows = labelled(drawn(WORDS, 1), ["books", "films"])

    def plan(name: str, **changes: Any) -> TrainingPlan:
        return make_plan(
            tmp_path / name,
            tiny_encoder,
            rows,
            rows[:10],
            adaptation={"l2_sp": {"control": True}},
            target=drawn(LETTERS, 2),
            n_epochs=2,
            batch_size=8,
            **changes,
        )

    whole = train(plan("whole"), tmp_path / "whole")
    artifact = tmp_path / "whole" / "artifact"
    report = json.loads((artifact / JSON_FILE).read_text("utf-8"))
    assert (report["verdict"]["split"], report["verdict"]["rows"]) == ("validation", 10)
    assert report["verdict"]["methods"] == ["l2_sp"]
    validation = whole.result.metrics["validation"]
    [decisive] = [test for test in report["verdict"]["measured"] if test["name"] == "f1_macro"]
    assert decisive["b"] == pytest.approx(validation["f1_macro"])
    assert report["evaluated"]["metrics"]["f1_macro"] == validation["f1_macro"]
    assert [part["slice"] for part in report["domains"]["domains"]] == ["books", "films"]
    assert report["a_distance"]["before"]["value"] > 1.5
    assert report["verdict"]["sentence"] in (artifact / "README.md").read_text("utf-8")
    assert_harmless((artifact / PAGE_FILE).read_text("utf-8"))
    listed = json.loads((artifact / "manifest.json").read_text("utf-8"))["files"]
    assert {JSON_FILE, PAGE_FILE} <= set(listed) & set(whole.result.artifact_files)

    # Stopped when its training is over, while the report is being made.
    part = train(plan("part"), tmp_path / "part", when=lambda event: isinstance(event, Metrics) and event.step == 20)
    assert part.stopped
    last = part.of(Checkpoint)[-1].path
    again = train(plan("part", resume_from=last), tmp_path / "part")
    assert (again.run_dir / "artifact" / JSON_FILE).read_bytes() == (artifact / JSON_FILE).read_bytes()

    plain = train(make_plan(tmp_path / "plain", tiny_encoder, rows, n_epochs=1), tmp_path / "plain")
    assert not {JSON_FILE, PAGE_FILE} & set(plain.result.artifact_files)
    assert "## Domain" not in (tmp_path / "plain" / "artifact" / "README.md").read_text("utf-8")


FEATURED = ("bert", "roberta", "deberta", "xlnet", "modernbert", "gpt2", "llama", "bart", "t5", "marian")


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
@pytest.mark.parametrize("name", FEATURED)
def test_features_are_the_means_of_the_hidden_states_that_the_library_gives(name: str, tmp_path: Path) -> None:
    writers = {family.name: family.write for family in FAMILIES} | {"marian": write_marian}
    writers[name](tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModel.from_pretrained(tmp_path / "model").train()
    if name == "marian":
        tokenizer = MarianTokenizer.from_pretrained(tmp_path / "model")
    texts = ["the film was good", "a", "perfect from the first minute " * 20, "I walked out."]
    stop = threading.Event()
    found = mean_features(model, tokenizer, texts, 20, stop, lambda event: None)
    assert model.training
    model.eval()
    body: Any = model.get_encoder() if model.config.is_encoder_decoder else model
    for text, features in zip(texts, found, strict=True):
        encoded = tokenizer(text, truncation=True, max_length=20, return_tensors="pt")
        with torch.inference_mode():
            hidden = body(**encoded).last_hidden_state[0]
        assert features == pytest.approx(hidden.mean(dim=0).numpy(), abs=2e-5)
    stop.set()
    with pytest.raises(StoppedError):
        mean_features(model, tokenizer, texts, 20, stop, lambda event: None)


@pytest.mark.parametrize("probe", PROBES, ids=str)
def test_every_task_has_a_report(probe: Probe, tiny_bases: dict[str, Path], tmp_path: Path) -> None:
    """Odd records, and texts that are far from them."""
    rows = probe.rows + probe.odd_rows
    made = inputs(tmp_path, tiny_bases[probe.base], probe, rows, drawn(LETTERS, 2), probe.rows)
    assert made.judged is not None
    control = Control(("l2_sp",), made.judged.outcomes.matrix, made.judged.metrics)
    found = write(replace(made, control=control), tmp_path)
    assert found["verdict"]["outcome"] == "no_measurable_difference"
    assert found["verdict"]["metric"] == probe.variant.selection_metric
    assert found["vocabulary"]["divergence"] > 0.5
    assert ("not_measured" in found["a_distance"]) == (len({json.dumps(row) for row in rows}) < 20)
    assert_harmless((tmp_path / PAGE_FILE).read_text("utf-8"))
