"""Preprocessing in the engine: what is trained on, what is told, what the artifact says; resuming changes nothing."""

import csv
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from transformers import pipeline

from app.catalog.preprocessing import Preprocessing, operations
from app.catalog.tasks import TASKS
from tests.contract.tiny import Outcome, Row, after_step, make_plan, train
from worker.protocol import Checkpoint, Log
from worker.training.data import read_records
from worker.training.failures import UserError
from worker.training.preprocessing import apply, of_artifact, preprocess

ROWS = list(TASKS["text-classification"].variants[0].example)
MANY = [
    {"text": f"{row['text']} {word}", "label": row["label"], "extra:site": f"site {number % 3}"}
    for number, word in enumerate(("once", "twice", "again", "never", "always"))
    for row in ROWS
]
SETTINGS: dict[str, Any] = {"n_epochs": 1, "batch_size": 4, "learning_rate": 1e-3}


def run(
    run_dir: Path, base: Path, preprocessing: dict[str, Any], rows: list[Row], *others: list[Row] | None, **given: Any
) -> Outcome:
    plan = make_plan(run_dir, base, rows, *others, preprocessing=preprocessing, **(SETTINGS | given))
    return train(plan, run_dir)


def told(outcome: Outcome, code: str) -> list[Log]:
    return [log for log in outcome.of(Log) if log.data.get("code") == code]


def parts_of(outcome: Outcome) -> dict[int, str]:
    with (outcome.run_dir / "artifact" / "split.csv").open(newline="") as file:
        return {int(row["row"]): row["part"] for row in csv.DictReader(file)}


def settings_of(outcome: Outcome) -> dict[str, Any]:
    return json.loads((outcome.run_dir / "artifact" / "preprocessing.json").read_text("utf-8"))


def test_a_split_trains_on_the_rest_and_scores_what_it_took_out(tiny_encoder: Path, tmp_path: Path) -> None:
    outcome = run(tmp_path, tiny_encoder, {"split": {"validation": 0.2, "test": 0.1}}, MANY)
    parts = parts_of(outcome)
    assert sorted(parts) == list(range(1, 41))
    assert [list(parts.values()).count(name) for name in ("train", "validation", "test")] == [28, 8, 4]
    for split, support in (("validation", 4), ("test", 2)):
        assert [entry["support"] for entry in outcome.result.metrics[split]["per_class"]] == [support, support]
    (log,) = told(outcome, "split")
    assert log.data == {"code": "split", "seed": 5, "rows": {"train": 28, "validation": 8, "test": 4}}
    assert settings_of(outcome)["rows"] == log.data["rows"]
    manifest = json.loads((tmp_path / "artifact" / "manifest.json").read_text("utf-8"))
    assert {name: file["rows"] for name, file in manifest["data"].items()} == log.data["rows"]
    assert manifest["preprocessing"]["split"]["seed"] == 5


def test_equal_texts_are_on_one_side_of_a_split(tiny_encoder: Path, tmp_path: Path) -> None:
    rows = [row | {"text": row["text"].upper() if again else row["text"]} for row in MANY for again in (False, True)]
    outcome = run(tmp_path, tiny_encoder, {"split": {"validation": 0.3}}, rows)
    parts = parts_of(outcome)
    assert all(parts[row] == parts[row + 1] for row in range(1, len(rows), 2))
    assert not told(outcome, "leakage")


def test_a_split_by_group_keeps_groups_whole(tiny_encoder: Path, tmp_path: Path) -> None:
    outcome = run(tmp_path, tiny_encoder, {"split": {"validation": 0.3, "group": "site"}}, MANY)
    parts = parts_of(outcome)
    sites = {
        site: {parts[n] for n, row in enumerate(MANY, 1) if row["extra:site"] == site}
        for site in ("site 0", "site 1", "site 2")
    }
    assert sorted(map(sorted, sites.values())) == [["train"], ["train"], ["validation"]]


def test_a_group_that_is_missing_is_named_by_row(tiny_encoder: Path, tmp_path: Path) -> None:
    rows = [*MANY[:5], MANY[5] | {"extra:site": None}, *MANY[6:]]
    with pytest.raises(UserError, match=r"'site'.*rows 6") as caught:
        run(tmp_path, tiny_encoder, {"split": {"group": "site"}}, rows)
    assert (caught.value.code, caught.value.param) == ("group_missing", "preprocessing.split.group")


def test_a_split_that_leaves_a_part_empty_is_refused(tiny_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no record for validation.*8 records.*validation 0\.01") as caught:
        run(tmp_path, tiny_encoder, {"split": {"validation": 0.01}}, ROWS)
    assert caught.value.code == "split_leaves_part_empty"


@pytest.mark.parametrize("stop_at", [1, 4])
def test_a_run_with_a_split_goes_on_bit_for_bit(stop_at: int, tiny_encoder: Path, tmp_path: Path) -> None:
    asked = {
        "strip_html": True,
        "lowercase": True,
        "deduplicate": "training",
        "split": {"validation": 0.2, "test": 0.2, "group": "site"},
    }
    rows = [*MANY, MANY[0]]
    given: dict[str, Any] = SETTINGS | {"preprocessing": asked, "eval_interval": 2, "n_epochs": 2}
    whole = train(make_plan(tmp_path / "whole", tiny_encoder, rows, **given), tmp_path / "whole")
    run_dir = tmp_path / "parts"
    assert train(make_plan(run_dir, tiny_encoder, rows, **given), run_dir, after_step(stop_at)).stopped
    last = max(path.name for path in (run_dir / "checkpoints").iterdir())
    resumed = train(make_plan(run_dir, tiny_encoder, rows, resume_from=f"checkpoints/{last}", **given), run_dir)
    assert resumed.weights == whole.weights
    assert resumed.result.metrics == whole.result.metrics
    assert parts_of(resumed) == parts_of(whole)


def test_copies_leave_training_and_no_other_split(tiny_encoder: Path, tmp_path: Path) -> None:
    copies = [{"text": f" {ROWS[0]['text'].upper()}", "label": ROWS[0]["label"]}, ROWS[1] | {"label": "positive"}]
    held = [ROWS[2], ROWS[2], ROWS[3]]
    outcome = run(tmp_path / "a", tiny_encoder, {"deduplicate": "training"}, [*ROWS, *copies], held)
    assert [row for row, part in parts_of(outcome).items() if part == "removed"] == [9]  # 10 says something else
    assert sum(entry["support"] for entry in outcome.result.metrics["validation"]["per_class"]) == 3
    (log,) = told(outcome, "deduplicated")
    assert log.data == {"code": "deduplicated", "removed": {"train": 1}, "rows": [9]}
    (leak,) = told(outcome, "leakage")
    assert leak.data["count"] == 3

    outcome = run(tmp_path / "b", tiny_encoder, {"deduplicate": "across_splits"}, [*ROWS, *copies], held)
    assert [row for row, part in parts_of(outcome).items() if part == "removed"] == [3, 4, 9]
    (log,) = told(outcome, "deduplicated")
    assert log.data["removed"] == {"train": 1, "validation": 2}
    assert not told(outcome, "leakage")


def test_training_that_would_be_removed_whole_is_refused(tiny_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        run(tmp_path, tiny_encoder, {"deduplicate": "across_splits"}, ROWS, ROWS)
    assert (caught.value.code, caught.value.param) == ("no_training_records", "preprocessing.deduplicate")


def test_what_is_read_is_cleaned_alike_in_every_split_and_by_the_artifacts_own_function(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    asked = {"strip_html": True, "unicode_normalization": "NFKC", "stop_words": "en", "collapse_whitespace": True}
    marked = [row | {"text": f"<p>The &amp; {row['text']}</p>"} for row in ROWS]
    outcome = run(tmp_path, tiny_encoder, asked, marked, test=[*marked, {"text": "<b>The</b>", "label": "negative"}])
    (log,) = told(outcome, "cleaned")
    assert log.data["changed"] == {"train": 8, "test": 9}
    (emptied,) = told(outcome, "emptied")
    assert (emptied.data["split"], emptied.data["rows"], emptied.level) == ("test", [9], "warn")

    artifact = tmp_path / "artifact"
    spec = importlib.util.spec_from_file_location("preprocessing_of_artifact", artifact / "preprocessing.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    clean = module.load(artifact)
    assert clean(marked[3]["text"]) == "& Loud, ."

    (point,) = outcome.of(Checkpoint)
    for name in ("preprocessing.json", "preprocessing.py"):  # a checkpoint is a model too
        assert (tmp_path / point.model_path / name).read_bytes() == (artifact / name).read_bytes()

    # An evaluation elsewhere reads the settings from the artifact and gets the same records.
    variant = TASKS["text-classification"].variants[0]
    plan = make_plan(tmp_path / "elsewhere", tiny_encoder, marked)
    records = apply(
        of_artifact(artifact),
        read_records("test", plan.train, tmp_path / "elsewhere"),
        TASKS["text-classification"],
        variant,
    )
    assert records.column("text") == [clean(row["text"]) for row in marked]
    assert records.column("label") == [row["label"] for row in marked]

    classify: Any = pipeline("text-classification", model=str(artifact))
    texts = [*(clean(row["text"]) for row in marked), clean("<b>The</b>")]
    right = sum(
        answer["label"] == label
        for answer, label in zip(classify(texts), [*(row["label"] for row in marked), "negative"], strict=True)
    )
    assert right / 9 == outcome.result.metrics["test"]["accuracy"]
    card = (artifact / "README.md").read_text("utf-8")
    assert "from preprocessing import load" in card
    assert "strip_html, unicode_normalization, stop_words, collapse_whitespace" in card


def test_words_are_cleaned_one_by_one_and_keep_their_tags(tiny_encoder: Path, tmp_path: Path) -> None:
    rows = list(TASKS["token-classification"].variants[0].example)
    asked = {"lowercase": True, "unicode_normalization": "NFKC"}
    spec = TASKS["token-classification"]
    plan = make_plan(
        tmp_path,
        tiny_encoder,
        [*rows, {"tokens": ["\uff21\uff24\uff21", "\u00bd"], "tags": ["B-PER", "O"]}],
        task="token-classification",
    )
    records = apply(
        Preprocessing.model_validate(asked), read_records("train", plan.train, tmp_path), spec, spec.variants[0]
    )
    assert records.column("tokens")[-1] == ["ada", "1\u20442"]
    assert list(map(len, records.column("tokens"))) == list(map(len, records.column("tags")))
    assert records.column("tokens")[0] == [word.lower() for word in rows[0]["tokens"]]


@pytest.mark.parametrize("task", list(TASKS))
def test_an_operation_that_would_part_words_from_what_belongs_to_them_is_refused(
    task: str, tiny_encoder: Path, tmp_path: Path
) -> None:
    spec = TASKS[task]
    every = {
        "strip_html": True,
        "unicode_normalization": "NFC",
        "lowercase": True,
        "stop_words": ["a"],
        "collapse_whitespace": True,
    }
    for variant in spec.variants:
        fitting = operations(variant)
        assert set(fitting) <= set(every)
        for name in every.keys() - set(fitting):
            plan = make_plan(
                tmp_path / variant.name / name,
                tiny_encoder,
                list(variant.example),
                task={"type": task} | spec.with_variant(variant),
                preprocessing={name: every[name]},
            )
            with pytest.raises(UserError) as caught:
                train(plan, tmp_path / variant.name / name)
            assert caught.value.param == f"preprocessing.{name}"
            assert caught.value.data == {"allowed": list(fitting)}


def test_without_preprocessing_the_artifact_says_nothing_of_it(tiny_encoder: Path, tmp_path: Path) -> None:
    train(make_plan(tmp_path, tiny_encoder, ROWS, n_epochs=1), tmp_path)
    names = {path.name for path in (tmp_path / "artifact").iterdir()}
    assert not names & {"preprocessing.json", "preprocessing.py", "split.csv"}
    assert of_artifact(tmp_path / "artifact") == Preprocessing()
    assert "Preprocessing" not in (tmp_path / "artifact" / "README.md").read_text("utf-8")


def test_a_base_model_that_read_texts_otherwise_is_told_of(tiny_encoder: Path, tmp_path: Path) -> None:
    run(tmp_path / "first", tiny_encoder, {"lowercase": True}, ROWS)
    base = tmp_path / "first" / "artifact"
    (log,) = told(run(tmp_path / "other", base, {}, ROWS), "base_cleaned_otherwise")
    assert (log.level, log.data["base"], log.data["job"]) == ("warn", ["lowercase"], [])
    assert not told(run(tmp_path / "same", base, {"lowercase": True}, ROWS), "base_cleaned_otherwise")


def test_settings_of_another_program_are_not_taken_for_ours(tmp_path: Path) -> None:
    for content in ("[]", "{}", '{"cleaning": 1}', "no JSON"):
        (tmp_path / "preprocessing.json").write_text(content)
        assert of_artifact(tmp_path) == Preprocessing()


@pytest.mark.parametrize(
    ("task", "variant"), [(spec.name, variant.name) for spec in TASKS.values() for variant in spec.variants]
)
def test_records_of_every_form_are_split_and_copies_found(
    task: str, variant: str, tiny_encoder: Path, tmp_path: Path
) -> None:
    spec = TASKS[task]
    form = next(form for form in spec.variants if form.name == variant)
    rows = list(form.example)
    options = {"type": task} | spec.with_variant(form)
    plan = make_plan(tmp_path, tiny_encoder, [*rows, rows[0]], task=options)
    asked = Preprocessing.model_validate({"deduplicate": "training", "split": {"validation": 0.25, "seed": 1}})
    read = {"train": read_records("train", plan.train, tmp_path)}
    made = preprocess(asked, read, spec, form, base=tiny_encoder, seed=2)
    rows_of = {name: records.column("row") for name, records in made.splits.items()}
    assert len(rows_of["validation"]) in (2, 3)
    both = {1, len(rows) + 1}  # the first row and its copy are on one side; in training one of them is left
    assert both <= set(rows_of["validation"]) or len(both & set(rows_of["train"])) == 1
    assert len(rows_of["train"]) + len(rows_of["validation"]) == len(rows) + (both <= set(rows_of["validation"]))
