"""What is particular to translation and summarization: families of models, codes of languages, refusals, settings."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from app.catalog.model_types import ENCODER_DECODERS, WARM_STARTED
from tests.contract.numbers import number_pairs
from tests.contract.probes import written_by_card
from tests.contract.tiny import Outcome, make_plan, train
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
