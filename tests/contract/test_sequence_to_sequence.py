"""What is particular to translation and summarization: families of models, codes of languages, refusals, settings."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from app.catalog.model_types import ENCODER_DECODERS, WARM_STARTED
from app.catalog.tasks import TASKS
from tests.contract.numbers import number_pairs
from tests.contract.probes import written_by_card
from tests.contract.tiny import Outcome, Row, make_plan, train
from tests.contract.writers import (
    MULTILINGUAL,
    READERS,
    ROWS,
    WRITERS,
    write_marian,
    write_multilingual,
    write_number_reader,
    write_writer,
)
from worker.protocol import Log
from worker.training.failures import UserError

TASK: dict[str, Any] = {"type": "translation", "max_target_length": 8, "generation": {"num_beams": 2}}
SETTINGS: dict[str, Any] = {"task": TASK, "n_epochs": 1, "batch_size": 4, "learning_rate": 1e-3}
SOURCES = [row["source"] for row in ROWS]


def run(run_dir: Path, base: Path, **settings: Any) -> Outcome:
    return train(make_plan(run_dir, base, ROWS[:4], test=ROWS, **(SETTINGS | settings)), run_dir)


def check_same(outcome: Outcome, base: Path) -> None:
    """The model card's lines, with nothing but the artifact, write what the job wrote."""
    shutil.rmtree(base)
    shown = [entry["prediction"] for entry in outcome.result.metrics["test"]["predictions"]]
    assert written_by_card(outcome.run_dir / "artifact", "translate", SOURCES) == shown


def test_every_family_is_tested() -> None:
    assert {*WRITERS, "m2m_100", "marian", "mbart", "encoder-decoder"} == ENCODER_DECODERS
    assert set(READERS) == WARM_STARTED


@pytest.mark.parametrize("family", [*WRITERS, *READERS])
def test_every_family_trains_and_writes_the_same_with_plain_transformers(
    family: str, tiny_encoder: Path, tmp_path: Path
) -> None:
    base = write_writer(family, tiny_encoder, tmp_path / "own_base")
    outcome = run(tmp_path / "run", base)
    told = [log.data["code"] for log in outcome.of(Log) if "code" in log.data]
    assert ("warm_started" in told) == (family in READERS)
    check_same(outcome, base)


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
def test_a_marian_model_keeps_its_own_tokenizer(tmp_path: Path) -> None:
    base = write_marian(tmp_path / "own_base")
    outcome = run(tmp_path / "run", base)
    assert not (tmp_path / "run" / "artifact" / "tokenizer.json").exists()
    check_same(outcome, base)


@pytest.mark.parametrize("family", MULTILINGUAL)
def test_a_model_with_codes_of_languages_reads_and_writes_those_of_the_job(family: str, tmp_path: Path) -> None:
    base = write_multilingual(family, tmp_path / "own_base")
    outcome = run(tmp_path / "run", base, task=TASK | {"source_language": "en", "target_language": "de"})
    artifact = tmp_path / "run" / "artifact"
    tokenizer = AutoTokenizer.from_pretrained(artifact)
    model = AutoModelForSeq2SeqLM.from_pretrained(artifact)
    assert (tokenizer.src_lang, tokenizer.tgt_lang) == {
        "m2m_100": ("en", "de"),
        "nllb": ("eng_Latn", "deu_Latn"),
    }.get(family, ("en_XX", "de_DE"))
    code = tokenizer.convert_tokens_to_ids({"m2m_100": "__de__"}.get(family, tokenizer.tgt_lang))
    written = model.generate(**tokenizer(SOURCES, padding=True, return_tensors="pt"))
    assert (written[:, 0 if family == "mbart" else 1] == code).all()
    shown = outcome.result.metrics["test"]["predictions"]
    assert tokenizer.batch_decode(written, skip_special_tokens=True) == [entry["prediction"] for entry in shown]
    check_same(outcome, base)


def refused(run_dir: Path, base: Path, **settings: Any) -> UserError:
    with pytest.raises(UserError) as caught:
        run(run_dir, base, **settings)
    return caught.value


def test_a_small_t5_from_random_weights_learns_to_translate_numbers(tmp_path: Path) -> None:
    """10 s on two cores: what no other test shows is that all parts together learn what they were not shown."""
    base = write_number_reader(tmp_path / "own_base")
    rows = number_pairs(2700, seed=1)
    plan = make_plan(
        tmp_path / "run",
        base,
        rows[:2500],
        rows[2500:2600],
        rows[2600:],
        task={"type": "translation", "max_target_length": 16, "evaluation_rows": 50, "generation": {"num_beams": 2}},
        n_epochs=8,
        batch_size=32,
        learning_rate=4e-3,
        label_smoothing=0.05,
        eval_interval=320,
    )
    scores = train(plan, tmp_path / "run").result.metrics
    assert scores["test"]["bleu"] >= 95
    texts = [row["source"] for row in rows[2600:2620]]
    shown = [entry["prediction"] for entry in scores["test"]["predictions"]]
    assert written_by_card(tmp_path / "run" / "artifact", "translate", texts) == shown


def test_an_artifact_is_a_base_model_that_goes_on_where_it_was(tiny_encoder: Path, tmp_path: Path) -> None:
    first = run(tmp_path / "1", tiny_encoder)
    still = {"learning_rate": 1e-9, "weight_decay": 0.0}
    again = run(tmp_path / "2", tmp_path / "1" / "artifact", **still)
    assert not any(log.data.get("code") in ("head_replaced", "warm_started") for log in again.of(Log))
    one, other = first.result.metrics["test"], again.result.metrics["test"]
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
    assert one["predictions"] == other["predictions"]


def test_settings_of_the_search_are_those_of_the_job_and_not_of_the_base(tiny_encoder: Path, tmp_path: Path) -> None:
    base = write_writer("bart", tiny_encoder, tmp_path / "own_base")
    path = base / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"num_beams": 7, "min_length": 6}), "utf-8")
    search = {"num_beams": 3, "min_new_tokens": 4, "length_penalty": 2.0, "no_repeat_ngram_size": 2}
    outcome = run(tmp_path / "run", base, task=TASK | {"generation": search})
    kept = json.loads((tmp_path / "run" / "artifact" / "generation_config.json").read_text("utf-8"))
    assert {name: kept.get(name) for name in search} == search
    assert kept["max_new_tokens"] == 8
    assert "min_length" not in kept
    assert kept["decoder_start_token_id"] == 0
    check_same(outcome, base)


def test_a_prefix_is_read_in_training_and_by_the_card(tiny_encoder: Path, tmp_path: Path) -> None:
    base = write_writer("t5", tiny_encoder, tmp_path / "own_base")
    config = json.loads((base / "config.json").read_text("utf-8"))
    known = {"translation_en_to_de": {"prefix": "translate English to German: "}}
    (base / "config.json").write_text(json.dumps(config | {"task_specific_params": known}), "utf-8")
    without = run(tmp_path / "1", base)
    (warning,) = [log for log in without.of(Log) if log.data.get("code") == "source_prefix_missing"]
    assert warning.data["prefixes"] == ["translate English to German: "]
    outcome = run(tmp_path / "2", base, task=TASK | {"source_prefix": "the old boat: "})
    assert outcome.losses != without.losses
    assert not any(log.data.get("code") == "source_prefix_missing" for log in outcome.of(Log))
    check_same(outcome, base)


def test_long_targets_are_counted_and_cut_off_before_their_end(tiny_encoder: Path, tmp_path: Path) -> None:
    outcome = run(tmp_path, tiny_encoder, task=TASK | {"max_target_length": 6})
    logs = [log for log in outcome.of(Log) if log.data.get("code") == "cut_off"]
    assert [(log.data["split"], log.data["texts"], log.level) for log in logs] == [
        ("train", 0, "warn"),
        ("test", 0, "warn"),
    ]
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    long = [sum(len(tokenizer(row["target"])["input_ids"]) > 6 for row in rows) for rows in (ROWS[:4], ROWS)]
    assert [log.data["targets"] for log in logs] == long
    assert long[0] > 0
    # Saved with the model, a truncation would cut other programs' texts.
    assert Tokenizer.from_file(str(tmp_path / "artifact" / "tokenizer.json")).truncation is None


def test_a_summary_is_scored_by_the_best_of_its_references(tiny_encoder: Path, tmp_path: Path) -> None:
    summary = {"type": "summarization", "max_target_length": 8, "generation": {"num_beams": 1}}
    rows = list(TASKS["summarization"].variants[0].example)
    settings: dict[str, Any] = SETTINGS | {"task": summary}

    def scores(name: str, test: list[Row]) -> dict[str, Any]:
        plan = make_plan(tmp_path / name, tiny_encoder, rows, test=test, **settings)
        return train(plan, tmp_path / name).result.metrics["test"]

    first = scores("1", rows[:2])
    written = [entry["prediction"] for entry in first["predictions"]]
    better = [["nothing like it", f"{written[0]} the end"], [f"{written[1]} the end"]]
    again = scores("2", [row | {"references": good} for row, good in zip(rows, better, strict=False)])
    assert again["rouge1"] > 0.4 > first["rouge1"]


@pytest.mark.parametrize(
    ("settings", "code", "param"),
    [
        ({"class_weights": "balanced"}, "class_weights_not_for_task", "hyperparameters.class_weights"),
        ({"task": TASK | {"max_target_length": 49}}, "max_target_length_too_long", "task.max_target_length"),
        (
            {"task": TASK | {"generation": {"min_new_tokens": 9}}},
            "min_new_tokens_too_long",
            "task.generation.min_new_tokens",
        ),
    ],
)
def test_what_cannot_be_honoured_is_refused(
    settings: dict[str, Any], code: str, param: str, tiny_encoder: Path, tmp_path: Path
) -> None:
    error = refused(tmp_path, tiny_encoder, **settings)
    assert (error.code, error.param) == (code, param)


@pytest.mark.parametrize(
    ("languages", "code"),
    [({}, "source_language is missing"), ({"source_language": "en", "target_language": "tlh"}, "'tlh', for which")],
)
def test_a_model_with_codes_of_languages_must_be_told_ones_it_knows(
    languages: dict[str, str], code: str, tmp_path: Path
) -> None:
    base = write_multilingual("m2m_100", tmp_path / "own_base")
    error = refused(tmp_path / "run", base, task=TASK | languages)
    assert error.code == "language_unknown"
    assert code in error.message
    assert "de" in error.data["allowed"]
