"""What is particular to language models: blocks, masks, templates, heads of base models, refusals."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from app.catalog.model_types import CAUSAL_LANGUAGE_MODELS, MASKED_LANGUAGE_MODELS
from app.catalog.tasks import TASKS
from tests.contract.families import FAMILIES
from tests.contract.probes import PROBES, generation_loss
from tests.contract.test_evaluation import evaluate, predictions
from tests.contract.tiny import Outcome, Row, after_step, make_plan, train
from worker.protocol import Checkpoint, Log, Metrics
from worker.training.failures import UserError

TEXTS: list[Row] = list(TASKS["fill-mask"].variants[0].example)
CHATS, PROMPTS = (list(TASKS["text-generation"].variants[number].example) for number in (0, 1))
MASK: dict[str, Any] = {"type": "fill-mask"}
CHAT_ML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

TOKENIZERS = [family.name for family in FAMILIES if family.name in MASKED_LANGUAGE_MODELS | CAUSAL_LANGUAGE_MODELS]


def of_format(name: str, **options: Any) -> dict[str, Any]:
    return {"type": "text-generation", "format": name} | options


def run(directory: Path, base: Path, *splits: list[Row] | None, **settings: Any) -> Outcome:
    settings = {"n_epochs": 1, "batch_size": 4} | settings
    return train(make_plan(directory, base, *splits, **settings), directory)


def told(outcome: Outcome, code: str) -> list[Log]:
    return [log for log in outcome.of(Log) if log.data.get("code") == code]


def test_packed_blocks_are_fewer_and_the_event_says_how_many(tiny_bases: dict[str, Path], tmp_path: Path) -> None:
    packed = run(tmp_path / "packed", tiny_bases["encoder"], TEXTS, TEXTS[:2], task=MASK)
    apart = run(tmp_path / "apart", tiny_bases["encoder"], TEXTS, TEXTS[:2], task=MASK | {"packing": False})
    blocks = [next(log.data for log in each.of(Log) if "blocks" in log.data) for each in (packed, apart)]
    assert blocks[0]["blocks"] == 2 < blocks[1]["blocks"] == len(TEXTS)
    separators = len(TEXTS) - 1  # and a begin and an end for each block
    assert blocks[0]["tokens"] - separators - 2 * 2 == blocks[1]["tokens"] - 2 * len(TEXTS)


def test_the_base_model_is_measured_before_training(tiny_bases: dict[str, Path], tmp_path: Path) -> None:
    outcome = run(tmp_path, tiny_bases["decoder"], PROMPTS, PROMPTS, task=of_format("completion"), learning_rate=3e-3)
    first = next(event for event in outcome.of(Metrics) if event.split == "validation")
    assert first.step == 0
    before, after = outcome.result.metrics["before_training"], outcome.result.metrics["validation"]
    assert before == first.values
    assert after["perplexity"] < before["perplexity"]
    texts = [(row["prompt"], row["completion"] + "<|endoftext|>") for row in PROMPTS]
    assert generation_loss(tiny_bases["decoder"], texts) == pytest.approx(before["loss"], rel=1e-5)
    assert "before training" in (tmp_path / "artifact" / "README.md").read_text("utf-8")


def test_half_the_batch_with_twice_the_accumulation_has_the_same_masks(
    tiny_bases: dict[str, Path], tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"task": MASK | {"packing": False}, "n_epochs": 2, "learning_rate": 1e-9}
    base = run(tmp_path / "base", tiny_bases["encoder"], TEXTS, task=MASK).run_dir / "artifact"
    config = json.loads((base / "config.json").read_text("utf-8"))
    without_dropout = config | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (base / "config.json").write_text(json.dumps(without_dropout), "utf-8")
    whole = run(tmp_path / "whole", base, TEXTS, batch_size=4, **settings)
    halves = run(tmp_path / "halves", base, TEXTS, batch_size=2, gradient_accumulation_steps=2, **settings)
    assert whole.losses == pytest.approx(halves.losses, rel=1e-5)
    assert whole.losses[:2] != pytest.approx(whole.losses[2:], rel=1e-3)  # other masks in the second epoch


def test_a_run_with_whole_words_and_packing_goes_on_bit_for_bit(tiny_bases: dict[str, Path], tmp_path: Path) -> None:
    settings: dict[str, Any] = {"task": MASK | {"whole_word_masking": True}, "n_epochs": 4, "batch_size": 1}
    rows = [TEXTS[:6], TEXTS[6:]]
    whole = run(tmp_path / "whole", tiny_bases["encoder"], *rows, **settings)
    part = tmp_path / "part"
    plan = make_plan(part, tiny_bases["encoder"], *rows, **settings)
    stopped = train(plan, part, after_step(3))
    last = stopped.of(Checkpoint)[-1].path
    resumed = train(make_plan(part, tiny_bases["encoder"], *rows, resume_from=last, **settings), part)
    assert stopped.stopped
    assert resumed.weights == whole.weights
    assert resumed.result.metrics == whole.result.metrics


def test_a_new_head_is_told_of_and_a_trained_one_is_kept(tiny_bases: dict[str, Path], tmp_path: Path) -> None:
    first = run(tmp_path / "1", tiny_bases["encoder"], TEXTS, TEXTS, task=MASK)
    (log,) = told(first, "head_new")
    assert (log.level, log.data["tied"]) == ("warn", True)
    again = run(tmp_path / "2", tmp_path / "1" / "artifact", TEXTS, TEXTS, task=MASK)
    assert not told(again, "head_new")
    before, after = again.result.metrics["before_training"], first.result.metrics["validation"]
    assert before["loss"] == pytest.approx(after["loss"], rel=1e-5)


def test_what_continued_pretraining_leaves_is_a_base_for_another_task(
    tiny_bases: dict[str, Path], tmp_path: Path
) -> None:
    first = run(tmp_path / "1", tiny_bases["encoder"], TEXTS, task=MASK)
    rows = list(TASKS["text-classification"].variants[0].example)
    still: dict[str, Any] = {"learning_rate": 1e-9, "weight_decay": 0.0}
    second = run(tmp_path / "2", first.run_dir / "artifact", rows, **still)
    weights = [load_file(each.run_dir / "artifact" / "model.safetensors") for each in (first, second)]
    bodies = [{name: tensor for name, tensor in each.items() if name.startswith("bert.")} for each in weights]
    assert set(bodies[0]) <= set(bodies[1])
    assert all(torch.allclose(tensor, bodies[1][name], atol=1e-6) for name, tensor in bodies[0].items())
    assert not told(second, "head_replaced")


def test_chats_that_are_too_long_are_cut_at_whole_messages_and_that_is_told(
    tiny_bases: dict[str, Path], tmp_path: Path
) -> None:
    long = {"messages": [*CHATS[0]["messages"], *CHATS[1]["messages"], *CHATS[2]["messages"][1:]]}
    question = {"role": "user", "content": "Does it need a GPU? " * 40}
    endless = {"messages": [question, {"role": "assistant", "content": "No. " * 60}]}
    rows = [*CHATS, long, endless]
    outcome = run(tmp_path, tiny_bases["decoder"], rows, task=of_format("chat"))
    (log,) = told(outcome, "cut")
    assert (log.level, log.data["rows"], log.data["answers"]) == ("warn", [9, 10], 1)
    assert "rows 9, 10" in log.message


def test_a_base_models_own_template_is_used_and_generation_stops_at_its_end(
    tiny_bases: dict[str, Path], tmp_path: Path
) -> None:
    base = Path(shutil.copytree(tiny_bases["decoder"], tmp_path / "base"))
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHAT_ML
    tokenizer.save_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(base)
    outcome = run(tmp_path / "run", base, CHATS, None, CHATS, task=of_format("chat"))
    assert not told(outcome, "plain_chat_template")
    artifact = tmp_path / "run" / "artifact"
    assert AutoTokenizer.from_pretrained(artifact).chat_template == CHAT_ML
    stops = json.loads((artifact / "generation_config.json").read_text("utf-8"))["eos_token_id"]
    assert stops == [0, tokenizer.convert_tokens_to_ids("<|im_end|>")]
    texts = [
        (
            tokenizer.apply_chat_template(row["messages"][:-1], tokenize=False, add_generation_prompt=True),
            row["messages"][-1]["content"] + "<|im_end|>",
        )
        for row in CHATS
    ]
    assert generation_loss(artifact, texts) == pytest.approx(outcome.result.metrics["test"]["loss"], rel=1e-5)


# Each kind of tokenizer; the head of every family is in tests/worker/test_vocabulary_head.py.
@pytest.mark.parametrize("name", TOKENIZERS)
def test_families_train_with_their_own_tokenizers_and_predict_the_same(name: str, tmp_path: Path) -> None:
    family = next(family for family in FAMILIES if family.name == name)
    base = family.write(tmp_path / "base")
    for probe in PROBES:
        if name in probe.spec.model_types and probe.variant.name in ("masked_tokens", "completion"):
            directory = tmp_path / probe.variant.name
            outcome = run(directory, base, probe.rows, None, probe.rows, task=probe.task, learning_rate=1e-3)
            probe.check_artifact(directory / "artifact", probe.rows, outcome.result.metrics["test"])


def test_completions_that_run_into_their_prompts_are_warned_of(tiny_bases: dict[str, Path], tmp_path: Path) -> None:
    rows = [*PROMPTS[:4], {"prompt": "cat", "completion": "Katze"}]
    (log,) = told(run(tmp_path, tiny_bases["decoder"], rows, task=of_format("completion")), "no_separator")
    assert (log.data["count"], log.data["rows"]) == (1, [5])


def refused(directory: Path, base: Path, rows: list[Row], **settings: Any) -> UserError:
    with pytest.raises(UserError) as caught:
        run(directory, base, rows, **settings)
    assert not (directory / "artifact").exists()
    return caught.value


@pytest.mark.parametrize(
    ("base", "rows", "settings", "code", "param"),
    [
        ("encoder", TEXTS, {"task": MASK, "class_weights": "balanced"}, "class_weights_not_for_task", None),
        ("decoder", PROMPTS, {"task": of_format("completion"), "class_weights": "balanced"}, None, None),
        ("encoder", [{"text": "😀 😀"}], {"task": MASK}, "nothing_to_learn", "training_file"),
        ("encoder", PROMPTS, {"task": of_format("completion")}, "base_model_does_not_fit_task", "model"),
        ("decoder", TEXTS, {"task": MASK}, "base_model_does_not_fit_task", "model"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    base: str,
    rows: list[Row],
    settings: dict[str, Any],
    code: str | None,
    param: str | None,
    tiny_bases: dict[str, Path],
    tmp_path: Path,
) -> None:
    error = refused(tmp_path, tiny_bases[base], rows, **settings)
    assert error.code == (code or "class_weights_not_for_task")
    assert error.param == (param or "hyperparameters.class_weights")


def test_a_tokenizer_without_a_mask_or_an_end_is_refused(tiny_bases: dict[str, Path], tmp_path: Path) -> None:
    for name, token, task, rows, code in (
        ("encoder", "mask_token", MASK, TEXTS, "base_model_without_mask"),
        ("decoder", "eos_token", of_format("completion"), PROMPTS, "base_model_without_end"),
    ):
        base = Path(shutil.copytree(tiny_bases[name], tmp_path / code))
        path = base / "tokenizer_config.json"
        config = json.loads(path.read_text("utf-8"))
        del config[token]
        path.write_text(json.dumps(config | {"pad_token": "<|endoftext|>"} if name == "decoder" else config), "utf-8")
        assert refused(tmp_path / name, base, rows, task=task).code == code


def test_a_chat_that_the_template_cannot_write_is_refused_with_its_row(
    tiny_bases: dict[str, Path], tmp_path: Path
) -> None:
    base = Path(shutil.copytree(tiny_bases["decoder"], tmp_path / "base"))
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = "{% for m in messages if m.role != 'system' %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    tokenizer.save_pretrained(base)
    error = refused(tmp_path / "run", base, [CHATS[1], CHATS[0]], task=of_format("chat"))
    assert (error.code, error.param, error.data["line"]) == ("chat_not_rendered", "training_file", 2)
    assert "'system'" in error.message


def test_an_evaluation_has_a_row_for_each_text_and_bears_those_without_a_token(
    tiny_bases: dict[str, Path], tmp_path: Path
) -> None:
    base = run(tmp_path / "job", tiny_bases["encoder"], TEXTS, task=MASK).run_dir / "artifact"
    rows: list[Row] = [*TEXTS[:2], {"text": "😀"}, TEXTS[2]]
    probe = next(probe for probe in PROBES if probe.task["type"] == "fill-mask")
    result = evaluate(None, base, tmp_path / "evaluation", probe, rows, task=MASK, max_length=None)
    found = predictions(tmp_path / "evaluation")
    assert [row["tokens"] == 0 for row in found] == [False, False, True, False]
    assert "perplexity" not in found[2]
    assert sum(row["tokens"] for row in found) == result.metrics["metrics"]["tokens"]
    total = sum(row["loss"] * row["tokens"] for row in found if row["tokens"])
    assert total / result.metrics["metrics"]["tokens"] == pytest.approx(result.metrics["metrics"]["loss"])


def test_a_base_model_without_the_head_cannot_be_evaluated(tiny_bases: dict[str, Path], tmp_path: Path) -> None:
    probe = next(probe for probe in PROBES if probe.task["type"] == "fill-mask")
    with pytest.raises(UserError) as caught:
        evaluate(None, tiny_bases["encoder"], tmp_path, probe, TEXTS, task=MASK, max_length=None)
    assert (caught.value.code, caught.value.param) == ("model_has_no_head", "model")
