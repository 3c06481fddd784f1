"""Methods of adaptation, alone and together: exact resume, artifacts that load alone, and that frozen is frozen."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertModel

from app.catalog.methods import METHODS, composes_with, conflict
from tests.contract.probes import PROBES, Probe
from tests.contract.test_resume import assert_same, carry_over
from tests.contract.tiny import Outcome, after_step, make_plan, train
from worker.protocol import Log
from worker.training.failures import UserError

Adaptation = dict[str, dict[str, Any]]
FREEZE: Adaptation = {"freeze": {"layers": ["embeddings", "0"]}}
GRADUAL: Adaptation = {"freeze": {"gradual_unfreezing": 0.5, "layer_decay": 0.8}}
LORA: Adaptation = {"lora": {"r": 4, "dropout": 0.1}}
AUGMENTED: Adaptation = {"augmentation": {"operations": [{"type": "swap"}, {"type": "deletion"}], "copies": 2}}
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
    AUGMENTED,
    LORA | AUGMENTED,
    GRADUAL | {"ema": {}},
    LORA | {"ema": {}, "fgm": {"epsilon": 0.5}},
    FREEZE | {"l2_sp": {}, "mixout": {}, "fgm": {}, "ema": {}},
]
ALL_TOGETHER = CASES[-1]
FORMS = {probe.task["type"]: probe for probe in reversed(PROBES)}  # one form of each task
CLASSIFIER = FORMS["text-classification"]


def named(adaptation: Adaptation) -> str:
    return " + ".join(adaptation)


def plan_of(run_dir: Path, base: Path, probe: Probe, adaptation: Adaptation, **more: Any) -> Any:
    settings: dict[str, Any] = {"n_epochs": 2, "batch_size": 2, "eval_interval": 3, "learning_rate": 2e-3}
    rows = probe.rows
    return make_plan(run_dir, base, rows, rows[:6], rows, task=probe.task, adaptation=adaptation, **(settings | more))


def run(run_dir: Path, base: Path, probe: Probe, adaptation: Adaptation, **more: Any) -> Outcome:
    return train(plan_of(run_dir, base, probe, adaptation, **more), run_dir)


@pytest.mark.parametrize(
    ("probe", "adaptation"),
    [
        *(pytest.param(CLASSIFIER, adaptation, id=named(adaptation)) for adaptation in CASES),
        *(
            pytest.param(probe, adaptation, id=f"{task}, {named(adaptation)}")
            for task, probe in FORMS.items()
            if task != "text-classification"
            for adaptation in (GRADUAL, LORA, ALL_TOGETHER)
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
    assert set(METHODS) == {name for adaptation in CASES for name in adaptation} | {"full"}
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
