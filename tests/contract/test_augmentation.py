"""Jobs with augmentation: what they train on, what they are judged on, exact resume, and models that help."""

import json
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

from app.catalog.adaptation.augmentation import AUGMENTATION, LEXICON, AugmentationOptions
from app.catalog.plan import TrainingPlan
from app.catalog.tasks import TASKS
from tests.contract.numbers import english, german
from tests.contract.probes import PROBES, Probe
from tests.contract.test_resume import assert_same, carry_over
from tests.contract.tiny import WINDOW, Outcome, Row, after_step, make_plan, train, write_records
from tests.contract.writers import write_number_reader
from worker.augmentation.back_translation import Translator, there_and_back
from worker.augmentation.copies import make_copies
from worker.augmentation.passages import tagged_passage
from worker.methods import augmentation
from worker.protocol import Log
from worker.training.data import read_records
from worker.training.encoder import open_base
from worker.training.failures import UserError
from worker.training.materials import read_materials

CLASSIFICATION: dict[str, Any] = {"type": "text-classification", "problem_type": "single_label_classification"}
ROWS: list[Row] = list(TASKS["text-classification"].variants[0].example)
SETTINGS: dict[str, Any] = {"task": CLASSIFICATION, "n_epochs": 2, "batch_size": 4, "learning_rate": 2e-3}
EDA: list[dict[str, Any]] = [{"type": "synonym"}, {"type": "insertion"}, {"type": "swap"}, {"type": "deletion"}]
PAIRS: list[Row] = [
    {"source": one, "target": other}
    for one, other in (("film", "movie"), ("act", "part"), ("opened", "set up"), ("river", "stream"), ("old", "aged"))
]
SERVED = [probe for probe in PROBES if AUGMENTATION.serves(probe.task["type"])]


def augmented(plan: TrainingPlan, run_dir: Path, **options: Any) -> TrainingPlan:
    """The plan with augmentation, and with a lexicon where an operation reads one."""
    files = {}
    if any(operation["type"] in ("synonym", "insertion") for operation in options["operations"]):
        fields = TASKS["translation"].variant(LEXICON).fields
        files["augmentation.lexicon_file"] = write_records(run_dir, "lexicon", PAIRS, fields)
    return plan.model_copy(update={"adaptation": {"augmentation": options}, "method_files": files})


def told(outcome: Outcome) -> dict[str, Any]:
    (log,) = [log for log in outcome.of(Log) if log.data.get("code") == "augmented"]
    return log.data


def copies_of(outcome: Outcome) -> list[Row]:
    """The copies that the run's checkpoints carry."""
    path = max(outcome.run_dir.glob("checkpoints/*/state/kept/*.parquet"))
    return pq.read_table(path).to_pylist()


def made(plan: TrainingPlan, run_dir: Path) -> list[Row]:
    """The copies that a run would train on."""
    base = open_base("local/tiny", run_dir / "base", TASKS[plan.task["type"]].model_types)
    materials = read_materials(plan, run_dir, base, WINDOW, None, threading.Event(), lambda _: None)
    options = AugmentationOptions.model_validate(plan.adaptation["augmentation"])
    return make_copies(options, read_records("train", plan.train, run_dir), materials).table.to_pylist()


@pytest.mark.parametrize("probe", SERVED, ids=str)
def test_every_form_of_every_task_learns_from_copies_and_is_judged_without(
    probe: Probe, tiny_bases: dict[str, Path], tmp_path: Path
) -> None:
    rows, odd = probe.rows + probe.odd_rows, probe.odd_rows
    mentions = [{"type": "mention_replacement"}] if "tokens" in rows[0] else []
    plan = make_plan(tmp_path, tiny_bases[probe.base], rows, odd, odd, task=probe.task, n_epochs=1, batch_size=16)
    outcome = train(augmented(plan, tmp_path, operations=EDA + mentions, copies=3), tmp_path)
    report = told(outcome)
    assert report["records"] == len(rows)
    assert report["made"] > 0
    assert [operation["type"] for operation in report["operations"]] == [entry["type"] for entry in EDA + mentions]
    copies = copies_of(outcome)
    assert report["made"] == len(copies)
    assert report["made"] + report["unchanged"] + report["duplicate"] == 3 * len(rows)
    probe.check_count(outcome.result.metrics["test"])
    changed = {"text", "text_pair", "tokens", "tags", "source", "document", "question"}
    for copy in copies:
        row = rows[copy["row"] - 1]
        assert {name: copy[name] for name in row if name not in changed} == {
            name: value for name, value in row.items() if name not in changed
        }
        assert any(copy[name] != row.get(name) for name in changed & set(copy))
        if "tags" in row:
            assert len(copy["tokens"]) == len(copy["tags"]) > 0


def test_copies_come_from_training_records_only_and_never_twice(tiny_encoder: Path, tmp_path: Path) -> None:
    plan = make_plan(
        tmp_path, tiny_encoder, ROWS * 3, preprocessing={"split": {"validation": 0.3, "test": 0.2}}, **SETTINGS
    )
    outcome = train(augmented(plan, tmp_path, operations=EDA, copies=6), tmp_path)
    parts = (tmp_path / "artifact" / "split.csv").read_text("utf-8").splitlines()[1:]
    trained = {int(line.split(",")[0]) for line in parts if line.endswith(",train")}
    copies = copies_of(outcome)
    assert {copy["row"] for copy in copies} <= trained
    assert len({copy["text"] for copy in copies} | {ROWS[(row - 1) % 8]["text"] for row in trained}) == len(
        copies
    ) + len({(row - 1) % 8 for row in trained})
    assert told(outcome)["duplicate"] > 0
    scores = outcome.result.metrics
    for part in ("validation", "test"):
        assert sum(entry["support"] for entry in scores[part]["per_class"]) == sum(
            line.endswith(f",{part}") for line in parts
        )


def test_operations_take_turns_and_the_report_shows_each(tiny_encoder: Path, tmp_path: Path) -> None:
    plan = augmented(make_plan(tmp_path, tiny_encoder, ROWS, **SETTINGS), tmp_path, operations=EDA, copies=4)
    outcome = train(plan, tmp_path)
    for operation in told(outcome)["operations"]:
        assert sum(operation[name] for name in ("made", "unchanged", "duplicate")) == len(ROWS)
    path = max(outcome.run_dir.glob("checkpoints/*/state/kept/*.parquet"))
    report = json.loads(pq.read_schema(path).metadata[b"report"])
    assert len(report["examples"]) == 10
    assert {example["operation"] for example in report["examples"][:4]} == {entry["type"] for entry in EDA}
    for example in report["examples"]:
        assert example["before"] == ROWS[example["row"] - 1]["text"] != example["after"]


def test_each_seed_makes_its_own_copies_and_the_same_again(tiny_encoder: Path, tmp_path: Path) -> None:
    def copies(seed: int) -> list[Row]:
        plan = make_plan(tmp_path, tiny_encoder, ROWS, seed=seed, **SETTINGS)
        return made(augmented(plan, tmp_path, operations=EDA), tmp_path)

    assert copies(3) == copies(3) != copies(4)


@pytest.fixture(scope="session")
def masked_model(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny encoder with a random head for masked tokens."""
    directory = tmp_path_factory.mktemp("masked")
    torch.manual_seed(11)
    config = BertConfig.from_pretrained(tiny_encoder)
    BertForMaskedLM(config).save_pretrained(directory)
    AutoTokenizer.from_pretrained(tiny_encoder).save_pretrained(directory)
    return directory


def contextual(plan: TrainingPlan, run_dir: Path, model: Path) -> TrainingPlan:
    operations = [{"type": "contextual", "rate": 0.3, "top_k": 5, "model": "local/masked"}]
    plan = augmented(plan, run_dir, operations=operations, copies=2)
    return plan.model_copy(update={"method_models": {"augmentation.operations.0.model": str(model)}})


def test_a_resumed_run_has_the_copies_of_its_checkpoint(
    tiny_encoder: Path, masked_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan_of(name: str, **more: Any) -> TrainingPlan:
        run_dir = tmp_path / name
        plan = make_plan(run_dir, tiny_encoder, ROWS, ROWS[:4], ROWS, eval_interval=3, **(SETTINGS | more))
        return contextual(plan, run_dir, masked_model)

    whole = train(plan_of("whole"), tmp_path / "whole")
    assert told(whole)["made"] > 0
    assert train(plan_of("part"), tmp_path / "part", after_step(4)).stopped
    last = f"checkpoints/{carry_over(tmp_path / 'part', tmp_path / 'next')}"
    monkeypatch.delattr(augmentation, "make_copies")  # nothing is computed again
    resumed = train(plan_of("next", resume_from=last), tmp_path / "next")
    assert_same(whole, resumed)
    assert copies_of(resumed) == copies_of(whole)


@pytest.mark.parametrize("words_of", ["text", "tokens"])
def test_a_masked_model_puts_whole_words_in_the_place_of_words(
    words_of: str, tiny_encoder: Path, masked_model: Path, tmp_path: Path
) -> None:
    vocabulary = AutoTokenizer.from_pretrained(tiny_encoder).get_vocab()
    probe = next(probe for probe in SERVED if words_of in probe.rows[0])
    plan = make_plan(tmp_path, tiny_encoder, probe.rows, task=probe.task, n_epochs=1, batch_size=16)
    outcome = train(contextual(plan, tmp_path, masked_model), tmp_path)
    for copy in copies_of(outcome):
        before, after = probe.rows[copy["row"] - 1][words_of], copy[words_of]
        if words_of == "text":
            before, after = before.split(), after.split()
        else:
            assert copy["tags"] == probe.rows[copy["row"] - 1]["tags"]
        assert len(after) == len(before)
        changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
        assert changed
        for old, new in changed:
            assert new.strip(".,").lower() in vocabulary
            assert new[-1] == old[-1] or old[-1].isalpha()  # punctuation stays
            assert new[0].isupper() == old[0].isupper()
        if words_of == "tokens":
            tags = copy["tags"]
            assert all(tag == "O" for old, new, tag in zip(before, after, tags, strict=True) if old != new)


def refused(plan: TrainingPlan, run_dir: Path, code: str, param: str) -> str:
    with pytest.raises(UserError) as caught:
        train(plan, run_dir)
    assert (caught.value.code, caught.value.param) == (code, param)
    return str(caught.value)


def test_what_augmentation_cannot_do_is_refused_with_the_reason(tiny_encoder: Path, tmp_path: Path) -> None:
    def plan_of(**more: Any) -> TrainingPlan:
        return make_plan(tmp_path, tiny_encoder, more.pop("rows", ROWS), **(SETTINGS | more))

    swap = [{"type": "swap"}]
    plan = augmented(plan_of(task="fill-mask", rows=[{"text": "a film"}] * 8), tmp_path, operations=swap)
    assert "learns the very text" in refused(plan, tmp_path, "augmentation_not_for_task", "adaptation.augmentation")
    plan = augmented(plan_of(), tmp_path, operations=[*swap, {"type": "mention_replacement"}])
    assert "token-classification" in refused(
        plan, tmp_path, "mentions_need_tags", "adaptation.augmentation.operations.1"
    )
    plan = augmented(plan_of(), tmp_path, operations=[{"type": "contextual"}])
    assert "'local/tiny' cannot fill masks" in refused(
        plan, tmp_path, "contextual_without_masked_model", "adaptation.augmentation.operations.0.model"
    )
    plan = augmented(plan_of(), tmp_path, operations=[{"type": "synonym"}])
    fields = TASKS["translation"].variant(LEXICON).fields
    empty = write_records(tmp_path, "empty", [{"source": "film", "target": "Film"}], fields)
    plan = plan.model_copy(update={"method_files": {"augmentation.lexicon_file": empty}})
    assert "empty.jsonl" in refused(plan, tmp_path, "lexicon_empty", "adaptation.augmentation.lexicon_file")


COUNTED = range(20, 100)


def ones_first(number: int) -> str:
    """As in "four and twenty blackbirds": the same number as people say it elsewhere."""
    return " ".join(reversed(english(number).split()))


@pytest.fixture(scope="module")
def translators(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """English numbers to German, and back to such as say the ones first. Both really learn it, in seconds."""
    folder = tmp_path_factory.mktemp("translators")
    base = write_number_reader(folder / "base")
    made: dict[str, Path] = {}
    for name, rows in (
        ("to", [{"source": english(number), "target": german(number)} for number in COUNTED]),
        ("back", [{"source": german(number), "target": ones_first(number)} for number in COUNTED]),
    ):
        run_dir = folder / name
        task = {"type": "translation", "max_target_length": 8, "generation": {"num_beams": 1}}
        train(make_plan(run_dir, base, rows, task=task, n_epochs=30, batch_size=20, learning_rate=5e-3), run_dir)
        made[name] = run_dir / "artifact"
    return made


def back_translated(plan: TrainingPlan, translators: dict[str, Path], **options: Any) -> TrainingPlan:
    operation = {"type": "back_translation", "to": {"model": "ft:to"}, "back": {"model": "ft:back"}, "num_beams": 2}
    return plan.model_copy(
        update={
            "adaptation": {"augmentation": {"operations": [operation | options], "copies": 2}},
            "method_models": {
                f"augmentation.operations.0.{part}.model": str(path) for part, path in translators.items()
            },
        }
    )


def counting_plan(run_dir: Path, base: Path) -> TrainingPlan:
    rows = [{"text": english(number), "label": "odd" if number % 2 else "even"} for number in COUNTED]
    return make_plan(run_dir, base, rows, rows, **(SETTINGS | {"n_epochs": 1}))


def test_texts_come_back_as_two_fine_tuned_translators_say_them(
    translators: dict[str, Path], tiny_encoder: Path, tmp_path: Path
) -> None:
    plan = back_translated(counting_plan(tmp_path, tiny_encoder), translators)
    outcome = train(plan, tmp_path)
    copies = copies_of(outcome)
    right = sum(copy["text"] == ones_first(COUNTED[copy["row"] - 1]) for copy in copies)
    assert right >= 0.9 * 72  # of 80 numbers, eight are one word and come back as they were
    assert all((copy["label"] == "odd") == (COUNTED[copy["row"] - 1] % 2 == 1) for copy in copies)
    report = told(outcome)
    assert report["made"] + report["unchanged"] + report["duplicate"] == 160
    assert report["duplicate"] >= right  # a search finds the same each time


def test_drawn_translations_differ_from_copy_to_copy(
    translators: dict[str, Path], tiny_encoder: Path, tmp_path: Path
) -> None:
    plan = back_translated(counting_plan(tmp_path, tiny_encoder), translators, temperature=3.0)
    copies = made(plan, tmp_path)
    assert copies == made(plan, tmp_path)
    assert max(Counter(copy["row"] for copy in copies).values()) == 2


def test_only_stretches_outside_of_entities_are_translated(
    translators: dict[str, Path], tiny_encoder: Path, tmp_path: Path
) -> None:
    plan = back_translated(counting_plan(tmp_path, tiny_encoder), translators)
    operations = plan.adaptation["augmentation"]["operations"]
    asked = AUGMENTATION.options.model_validate({"operations": operations}).operations[0]
    base = open_base("local/tiny", tmp_path / "base", TASKS["text-classification"].model_types)
    materials = read_materials(plan, tmp_path, base, WINDOW, None, threading.Event(), lambda _: None)
    cpu = torch.device("cpu")
    to = Translator.open(translators["to"], asked.to, asked, cpu, "translating", materials)
    back = Translator.open(translators["back"], asked.back, asked, cpu, "translating back", materials)
    tokens = ["forty", "two", "Ada", "Lovelace", "seventy", "eight", "London", "sixty", "one", "two"]
    tags = ["O", "O", "B-PER", "I-PER", "O", "O", "B-LOC", "O", "O", "O"]
    (changed,) = there_and_back([tagged_passage(tokens, tags, "auto")], to, back, seed=None)
    (said,) = back(to(["sixty one two"]))
    assert [word.text for word in changed.words] == [*tokens[:7], *said.split()]
    assert [word.tag for word in changed.words] == [*tags[:7], *["O"] * len(said.split())]


def test_a_model_that_does_not_translate_is_named_by_its_option(
    translators: dict[str, Path], tiny_encoder: Path, tmp_path: Path
) -> None:
    plan = back_translated(counting_plan(tmp_path, tiny_encoder), translators | {"back": tiny_encoder})
    assert "'ft:back'" in refused(
        plan, tmp_path, "model_has_no_head", "adaptation.augmentation.operations.0.back.model"
    )
