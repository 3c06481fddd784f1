"""Methods of adaptation, alone and together: exact resume, artifacts that load alone, and that frozen is frozen."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertModel

from app.catalog.adaptation.spec import NeededFile
from app.catalog.methods import METHODS, composes_with, conflict
from app.catalog.tasks import TASKS
from tests.contract.probes import PROBES, Probe
from tests.contract.test_resume import assert_same, carry_over
from tests.contract.tiny import Outcome, Row, after_step, make_plan, train
from worker.protocol import Log, Metrics
from worker.training.auxiliary import Auxiliary
from worker.training.failures import UserError
from worker.training.stages import HANDING_ON

Adaptation = dict[str, dict[str, Any]]
FREEZE: Adaptation = {"freeze": {"layers": ["embeddings", "0"]}}
GRADUAL: Adaptation = {"freeze": {"gradual_unfreezing": 0.5, "layer_decay": 0.8}}
LORA: Adaptation = {"lora": {"r": 4, "dropout": 0.1}}
AUGMENTED: Adaptation = {
    "augmentation": {"control": False, "operations": [{"type": "swap"}, {"type": "deletion"}], "copies": 2}
}
DANN: Adaptation = {"domain_adversarial": {"control": False}}
TARGET = ("The patient was given two tablets a day.", "No side effects were seen.", "She slept well after the dose.")
AUXILIARY: list[dict[str, Any]] = [
    {"name": "tags", "task": {"type": "token-classification", "head": "crf"}, "training_file": "file-1"},
    {"name": "masks", "task": {"type": "fill-mask"}, "training_file": "file-2", "weight": 0.5},
    {
        "name": "scores",
        "task": {"type": "text-classification", "problem_type": "regression"},
        "training_file": "file-3",
    },
    {"name": "answers", "task": {"type": "question-answering"}, "training_file": "file-4"},
]
MULTI_TASK: Adaptation = {
    "multi_task": {"control": False, "tasks": AUXILIARY, "sampling": "annealed", "weights": "uncertainty"}
}
TWO_TASKS: Adaptation = {"multi_task": {"control": False, "tasks": AUXILIARY[2:]}}
CASES: list[Adaptation] = [
    FREEZE,
    GRADUAL,
    {"freeze": {"layers": ["encoder"]}},
    LORA,
    {"lora": {"r": 2, "dora": True, "rslora": True, "target_modules": ["query", "value"]}},
    {"l2_sp": {"alpha": 0.1}},
    {"mixout": {"p": 0.7}},
    {"fgm": {}},
    {"ema": {"decay": 0.9}},
    {"swa": {"start": 0.4}},
    {"r_drop": {"alpha": 0.5}},
    {"prototype": {}, "r_drop": {}, "ema": {}},
    {"freeze": {"layers": ["encoder"]}, "prototype": {}},
    LORA | {"swa": {"start": 0.0}, "r_drop": {}},
    AUGMENTED,
    LORA | AUGMENTED,
    DANN,
    {"domain_adversarial": {"control": False, "loss": "mmd", "schedule": "constant", "features": "first"}},
    {"domain_adversarial": {"control": False, "loss": "coral", "weight": 1000.0}},
    MULTI_TASK,
    {"multi_task": {"control": False, "tasks": AUXILIARY[:1]}},
    GRADUAL | {"ema": {}},
    LORA | {"fgm": {}, "multi_task": {"control": False, "tasks": AUXILIARY[:2], "sampling": "temperature"}} | DANN,
    LORA | {"ema": {}, "fgm": {"epsilon": 0.5}},
    FREEZE | {"l2_sp": {}, "mixout": {}, "fgm": {}, "ema": {}, "r_drop": {}},
]
ALL_TOGETHER = CASES[-1]
FORMS = {probe.task["type"]: probe for probe in reversed(PROBES)}  # one form of each task
CLASSIFIER = FORMS["text-classification"]


def named(adaptation: Adaptation) -> str:
    return " + ".join(adaptation)


def plan_of(run_dir: Path, base: Path, probe: Probe, adaptation: Adaptation, **more: Any) -> Any:
    settings: dict[str, Any] = {"n_epochs": 2, "batch_size": 2, "eval_interval": 3, "learning_rate": 2e-3}
    rows = probe.rows
    if any(METHODS[name].needs_target for name in adaptation):
        settings["target"] = TARGET
    if needed := [file for name in adaptation for file in needs_of(name, adaptation[name], probe.task)]:
        settings["method_files"] = {file.key: (dict(file.task), rows_of(file.task)) for file in needed}
    return make_plan(run_dir, base, rows, rows[:6], rows, task=probe.task, adaptation=adaptation, **(settings | more))


def needs_of(name: str, options: dict[str, Any], task: dict[str, Any]) -> tuple[NeededFile, ...]:
    return METHODS[name].files(METHODS[name].options.model_validate(options), task)


def rows_of(task: Mapping[str, Any]) -> list[Row]:
    """The catalogue's own records."""
    return list(TASKS[task["type"]].variant(task).example)


def run(run_dir: Path, base: Path, probe: Probe, adaptation: Adaptation, **more: Any) -> Outcome:
    return train(plan_of(run_dir, base, probe, adaptation, **more), run_dir)


def heads(run_dir: Path) -> dict[str, bytes]:
    """What lies beside the model in the artifact: heads of other tasks."""
    return {path.parent.name: path.read_bytes() for path in (run_dir / "artifact").glob("heads/*/*.safetensors")}


@pytest.mark.parametrize(
    ("probe", "adaptation"),
    [
        *(pytest.param(CLASSIFIER, adaptation, id=named(adaptation)) for adaptation in CASES),
        *(
            pytest.param(probe, adaptation, id=f"{task}, {named(adaptation)}")
            for task, probe in FORMS.items()
            if task != "text-classification"
            for adaptation in (
                GRADUAL,
                LORA,
                ALL_TOGETHER,
                DANN,
                {"multi_task": {"control": False, "tasks": AUXILIARY[2:]}},
            )
            if all(METHODS[name].serves(task) for name in adaptation)
            if (task, adaptation) != ("summarization", DANN)  # as translation, on the way through the encoder
        ),
    ],
)
def test_it_goes_on_bit_for_bit_and_its_artifact_loads_alone(
    probe: Probe, adaptation: Adaptation, tiny_bases: dict[str, Path], tmp_path: Path
) -> None:
    base = tiny_bases[probe.base]
    whole = run(tmp_path / "whole", base, probe, adaptation)
    stopped = train(plan_of(tmp_path / "part", base, probe, adaptation), tmp_path / "part", after_step(5))
    assert stopped.stopped
    last = f"checkpoints/{carry_over(tmp_path / 'part', tmp_path / 'next')}"
    assert_same(whole, run(tmp_path / "next", base, probe, adaptation, resume_from=last))
    assert heads(tmp_path / "whole") == heads(tmp_path / "next")
    probe.check_artifact(tmp_path / "whole" / "artifact", probe.rows, whole.result.metrics["test"])


@pytest.mark.parametrize(
    ("adaptation", "frozen"),
    [
        (FREEZE, ("embeddings.", "encoder.layer.0.")),
        (ALL_TOGETHER, ("embeddings.", "encoder.layer.0.")),
        ({"freeze": {"layers": ["encoder"]}}, ("embeddings.", "encoder.")),
        ({"freeze": {"patterns": ["*.attention.*"]}}, ("encoder.layer.0.attention.", "encoder.layer.1.attention.")),
        ({"freeze": {"gradual_unfreezing": 1.0}}, ("embeddings.", "encoder.layer.0.")),  # two epochs thaw one layer
    ],
    ids=str,
)
def test_what_is_frozen_stays_bit_for_bit_and_the_rest_moves(
    adaptation: Adaptation, frozen: tuple[str, ...], tiny_encoder: Path, tmp_path: Path
) -> None:
    # Without a validation file the result is the last step's.
    settings: dict[str, Any] = {"task": CLASSIFIER.task, "n_epochs": 2, "batch_size": 2, "weight_decay": 0.1}
    plan = make_plan(tmp_path, tiny_encoder, CLASSIFIER.rows, adaptation=adaptation, **settings)
    outcome = train(plan, tmp_path)
    before = load_file(tiny_encoder / "model.safetensors")
    after = load_file(tmp_path / "artifact" / "model.safetensors")
    same = {name for name in before if torch.equal(before[name], after[f"bert.{name}"])}
    assert {name for name in before if name.startswith(frozen)} <= same
    moved = {name for name in before if name.startswith("encoder.") and not name.startswith(frozen)}
    # Keys' biases shift all scores of a token alike: softmax does not see them, and their gradient is rounding.
    assert not {name for name in moved & same if not name.endswith("key.bias")}
    told = [log.message for log in outcome.of(Log) if "parameters train" in log.message]
    assert bool(told) == ("gradual_unfreezing" not in adaptation["freeze"])


# PEFT asks Transformers for an attribute that has a new name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_the_adapter_beside_the_merged_model_is_the_same_model_for_peft(tiny_encoder: Path, tmp_path: Path) -> None:
    run(tmp_path, tiny_encoder, CLASSIFIER, LORA)
    artifact = tmp_path / "artifact"
    merged = AutoModelForSequenceClassification.from_pretrained(artifact).eval()
    base = AutoModelForSequenceClassification.from_pretrained(tiny_encoder, config=merged.config)
    adapted = PeftModel.from_pretrained(base, str(artifact / "adapter")).eval()
    tokenizer = AutoTokenizer.from_pretrained(artifact)
    inputs = tokenizer([row["text"] for row in CLASSIFIER.rows], padding=True, return_tensors="pt")
    with torch.inference_mode():
        torch.testing.assert_close(adapted(**inputs).logits, merged(**inputs).logits, atol=1e-5, rtol=1e-5)
    pretrained = load_file(tiny_encoder / "model.safetensors")
    assert torch.equal(pretrained["embeddings.word_embeddings.weight"], merged.bert.embeddings.word_embeddings.weight)
    assert not torch.equal(
        pretrained["encoder.layer.0.output.dense.weight"], merged.bert.encoder.layer[0].output.dense.weight
    )


@pytest.mark.parametrize("adaptation", [{"full": {}}, {"l2_sp": {"alpha": 0.0, "beta": 0.0}}], ids=str)
def test_a_method_that_is_switched_off_changes_nothing(
    adaptation: Adaptation, tiny_encoder: Path, tmp_path: Path
) -> None:
    without = run(tmp_path / "without", tiny_encoder, CLASSIFIER, {})
    assert run(tmp_path / "off", tiny_encoder, CLASSIFIER, adaptation).weights == without.weights


@pytest.mark.parametrize("adaptation", CASES, ids=named)
def test_every_method_changes_the_result(adaptation: Adaptation, tiny_encoder: Path, tmp_path: Path) -> None:
    without = run(tmp_path / "without", tiny_encoder, CLASSIFIER, {}, n_epochs=1)
    assert run(tmp_path / "with", tiny_encoder, CLASSIFIER, adaptation, n_epochs=1).weights != without.weights


@pytest.mark.parametrize(
    ("adaptation", "code", "named"),
    [
        ({"freeze": {"layers": ["2"]}}, "freeze_no_such_layer", "layer 2, but the model has layers 0 to 1"),
        ({"freeze": {"layers": ["1-7"]}}, "freeze_no_such_layer", "layer 2"),
        ({"freeze": {"patterns": ["*.nothing"]}}, "freeze_no_such_parameter", "'*.nothing', which fits no parameter"),
        ({"freeze": {"patterns": ["*"]}}, "nothing_trains", "Freeze less"),
        ({"lora": {"target_modules": ["q_proj"]}}, "lora_no_such_module", "They are called: dense, key, query, value"),
        (DANN | {"freeze": {"layers": ["encoder"]}}, "nothing_to_adapt", "leaves none of the body's parameters"),
        (MULTI_TASK | {"freeze": {"layers": ["encoder"]}}, "nothing_to_adapt", "adaptation.multi_task changes"),
        ({"lora": {}, "freeze": {"layers": ["0"]}}, "methods_do_not_compose", "freeze and lora, but lora freezes"),
    ],
)
def test_options_that_do_not_fit_the_model_are_refused_with_what_would(
    adaptation: Adaptation, code: str, named: str, tiny_encoder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        run(tmp_path, tiny_encoder, CLASSIFIER, adaptation)
    assert caught.value.code == code
    assert named in str(caught.value)
    assert (caught.value.param or "").startswith("adaptation")


def test_every_method_is_tested_and_says_what_it_composes_with() -> None:
    of_stages = set(HANDING_ON)  # tests/contract/test_stages.py
    assert set(METHODS) == {name for adaptation in CASES for name in adaptation} | {"full"} | of_stages
    for name, spec in METHODS.items():
        spec.options.model_validate(dict(spec.example))
        for other in METHODS:
            if other != name:
                assert (other in composes_with(spec)) == (conflict((name, other)) is None)
                assert (other in composes_with(spec)) == (name in composes_with(METHODS[other]))
        assert set(spec.conflicts) <= set(METHODS)


FROZEN: Adaptation = {"freeze": {"layers": ["encoder"]}}


def test_features_of_a_frozen_body_are_computed_once_and_lead_to_the_same_result(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = 0
    forward = BertModel.forward

    def counted(self: BertModel, input_ids: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        nonlocal texts
        texts += len(input_ids)
        return forward(self, input_ids, *args, **kwargs)

    monkeypatch.setattr(BertModel, "forward", counted)
    live = run(tmp_path / "live", tiny_encoder, CLASSIFIER, {"freeze": {**FROZEN["freeze"], "cache_features": False}})
    in_every_epoch, texts = texts, 0
    cached = run(tmp_path / "cached", tiny_encoder, CLASSIFIER, FROZEN)
    # Eight to train on and six to watch; a batch more to see what the head reads. The test file has the same texts.
    assert texts == 8 + 6 + 8 < in_every_epoch
    assert cached.losses == pytest.approx(live.losses, rel=1e-5)
    one, other = (outcome.result.metrics["test"] for outcome in (cached, live))
    assert {name: one[name] for name in one if isinstance(one[name], float)} == pytest.approx(
        {name: other[name] for name in one if isinstance(one[name], float)}, rel=1e-5
    )
    kept = {path.name for path in (tmp_path / "cached" / "features").iterdir()}
    assert kept == {"pooler_output.f32"}  # the classifier reads nothing else


# A causal model's head is its embeddings: where these are frozen, nothing trains. A decoder looks at what the body
# makes of a text anew with every token that it has written.
@pytest.mark.parametrize(
    "task",
    sorted(FORMS.keys() - {"text-classification", "text-generation", "translation", "summarization"}),
)
def test_features_of_tokens_are_kept_where_the_head_reads_them(task: str, tiny_encoder: Path, tmp_path: Path) -> None:
    probe = FORMS[task]
    live = run(tmp_path / "live", tiny_encoder, probe, {"freeze": {**FROZEN["freeze"], "cache_features": False}})
    cached = run(tmp_path / "cached", tiny_encoder, probe, FROZEN)
    assert cached.losses == pytest.approx(live.losses, rel=1e-4)
    kept = {path.name for path in (tmp_path / "cached").glob("features/*")}
    assert kept == (set() if task == "fill-mask" else {"last_hidden_state.f32"})  # other masks in each epoch


def test_embeddings_that_fgm_moves_are_never_taken_from_disk(tiny_encoder: Path, tmp_path: Path) -> None:
    run(tmp_path, tiny_encoder, CLASSIFIER, FROZEN | {"fgm": {}})
    assert not (tmp_path / "features").exists()


def test_domains_that_the_training_file_names_are_told_apart(tiny_encoder: Path, tmp_path: Path) -> None:
    rows = [row | {"extra:shop": "abc"[number % 3]} for number, row in enumerate(CLASSIFIER.rows)]
    adaptation: Adaptation = {"domain_adversarial": {"control": False, "domain_field": "shop"}}
    settings: dict[str, Any] = {"task": CLASSIFIER.task, "n_epochs": 2, "batch_size": 4, "target": TARGET}
    outcome = train(make_plan(tmp_path, tiny_encoder, rows, adaptation=adaptation, **settings), tmp_path)
    last = [metrics for metrics in outcome.of(Metrics) if metrics.split == "train"][-1].values
    assert 0 <= last["domain_accuracy"] <= 1
    assert last["domain_loss"] < math.log(4) + 1  # three shops and the target
    alone = run(tmp_path / "one", tiny_encoder, CLASSIFIER, DANN, batch_size=4)
    assert alone.losses[0] < outcome.losses[0]  # of two domains


def test_heads_beside_the_model_are_those_of_the_chosen_step_and_load_without_tailor(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected: dict[str, list[torch.Tensor]] = {}
    write = Auxiliary.write
    ids = torch.tensor([[2, 7, 9, 11, 3], [2, 40, 41, 42, 3]])

    def outputs(model: torch.nn.Module) -> list[torch.Tensor]:
        with torch.inference_mode():
            return [value for value in model.eval()(input_ids=ids).values() if isinstance(value, torch.Tensor)]

    def remembered(self: Auxiliary, directory: Path) -> None:
        expected[self.name] = outputs(self.model)
        write(self, directory)

    monkeypatch.setattr(Auxiliary, "write", remembered)
    outcome = run(tmp_path, tiny_encoder, CLASSIFIER, MULTI_TASK | LORA | {"ema": {}}, n_epochs=3, eval_interval=1)
    for name, found in expected.items():
        directory = tmp_path / "artifact" / "heads" / name
        code = (directory / "README.md").read_text("utf-8").split("```python\n")[1].split("\n```")[0]
        scope: dict[str, Any] = {}
        exec(code.replace("path/to/this/directory", str(directory)), scope)
        for one, other in zip(outputs(scope["model"]), found, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
        assert json.loads((directory / "task.json").read_text("utf-8"))["name"] == name
    assert list(expected) == ["tags", "masks", "scores", "answers"]
    best = f"checkpoints/step-{outcome.result.metrics['best_step']:08d}/state/tensors.safetensors"
    kept = load_file(tmp_path / best)["method/modules/multi_task:heads/tags.classifier/bias"]
    assert torch.equal(load_file(tmp_path / "artifact/heads/tags/model.safetensors")["classifier.bias"], kept)


def test_errors_in_the_data_of_another_task_say_which(tiny_encoder: Path, tmp_path: Path) -> None:
    adaptation: Adaptation = {"multi_task": {"control": False, "tasks": AUXILIARY[:1]}}
    nothing = [{"tokens": ["No", "entity"], "tags": ["O", "O"]}]
    file = {"multi_task.tasks.0.training_file": (AUXILIARY[0]["task"], nothing)}
    with pytest.raises(UserError) as caught:
        train(make_plan(tmp_path, tiny_encoder, CLASSIFIER.rows, adaptation=adaptation, method_files=file), tmp_path)
    assert (caught.value.code, caught.value.param) == ("no_entities", "adaptation.multi_task.tasks.0.training_file")
    assert str(caught.value).startswith("Task 'tags' of multi_task: No word of the training file")
