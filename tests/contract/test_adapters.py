"""LoRA's result as an adapter alone: PEFT loads it, the model card says how, and jobs go on from it."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, pipeline

from app.catalog.adaptation.lora import LoraOptions
from app.catalog.methods import conflict
from app.model_files.adapters import BASE, CONFIG, WEIGHTS
from tests.contract.probes import PROBES, Probe
from tests.contract.test_methods import CLASSIFIER, FORMS, plan_of, run
from tests.contract.test_resume import carry_over
from tests.contract.tiny import after_step, make_plan, train
from worker.training.adapter_files import whole_model
from worker.training.failures import UserError

ADAPTER: dict[str, dict[str, Any]] = {"lora": {"r": 4, "dropout": 0.1, "artifact": "adapter"}}
# PEFT asks Transformers for an attribute that has a new name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def form(**task: Any) -> Probe:
    return next(probe for probe in PROBES if task.items() <= probe.task.items())


def on_its_base(artifact: Path, base: Path) -> Path:
    """As a worker lays an adapter out for a job."""
    (artifact / BASE).symlink_to(base, target_is_directory=True)
    return artifact


@pytest.mark.parametrize(
    "probe",
    [
        FORMS["text-classification"],
        form(problem_type="regression"),
        form(problem_type="multi_label_classification"),
        form(type="token-classification", head="linear"),
        FORMS["question-answering"],
        FORMS["fill-mask"],
        FORMS["text-generation"],
    ],
    ids=lambda probe: " ".join(str(value) for value in list(probe.task.values())[:2]),
)
def test_merged_into_its_base_it_is_the_model_that_was_scored(
    probe: Probe, tiny_bases: dict[str, Path], tmp_path: Path
) -> None:
    base = tiny_bases[probe.base]
    outcome = run(tmp_path, base, probe, ADAPTER, n_epochs=1)
    artifact = tmp_path / "artifact"
    assert {CONFIG, WEIGHTS, "config.json", "tokenizer.json", "README.md"} <= {path.name for path in artifact.iterdir()}
    assert not (artifact / "model.safetensors").exists()
    merged = whole_model(on_its_base(artifact, base))
    card = (artifact / "README.md").read_text("utf-8").replace("path/to/merged/model", "path/to/this/directory")
    (merged / "README.md").write_text(
        re.sub(r"import shutil.*dirs_exist_ok=True\)\n", "", card, flags=re.DOTALL), "utf-8"
    )
    probe.check_artifact(merged, probe.rows, outcome.result.metrics["test"])


def test_peft_loads_it_and_the_lines_of_its_card_make_a_model_of_it(tiny_encoder: Path, tmp_path: Path) -> None:
    run(tmp_path / "both", tiny_encoder, CLASSIFIER, {"lora": ADAPTER["lora"] | {"artifact": "both"}})
    run(tmp_path / "alone", tiny_encoder, CLASSIFIER, ADAPTER)
    artifact = tmp_path / "alone" / "artifact"
    both = AutoModelForSequenceClassification.from_pretrained(tmp_path / "both" / "artifact").eval()
    config = AutoConfig.from_pretrained(artifact)
    base = AutoModelForSequenceClassification.from_pretrained(tiny_encoder, config=config)
    adapted = PeftModel.from_pretrained(base, str(artifact)).eval()
    assert adapted.peft_config["default"].base_model_name_or_path == "local/tiny"
    texts = [row["text"] for row in CLASSIFIER.rows]
    inputs = AutoTokenizer.from_pretrained(artifact)(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        torch.testing.assert_close(adapted(**inputs).logits, both(**inputs).logits, atol=1e-5, rtol=1e-5)

    card = (artifact / "README.md").read_text("utf-8")
    assert "library_name: peft" in card
    assert "base_model: local/tiny" in card
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert code is not None
    merged = tmp_path / "merged"
    places = {
        "path/to/this/directory": artifact,
        "path/to/merged/model": merged,
        "path/to/local/tiny": tiny_encoder,
    }
    lines = code[1]
    for named, place in places.items():
        assert named in lines
        lines = lines.replace(named, str(place))
    found: dict[str, Any] = {}
    exec(lines, found)
    expected: Any = pipeline("text-classification", model=str(tmp_path / "both" / "artifact"))
    for one, other in zip(found["classify"](texts), expected(texts), strict=True):
        assert one["label"] == other["label"]
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)


def test_it_goes_on_bit_for_bit_from_checkpoints_that_are_adapters(tiny_encoder: Path, tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", tiny_encoder, CLASSIFIER, ADAPTER)
    plan = plan_of(tmp_path / "part", tiny_encoder, CLASSIFIER, ADAPTER)
    assert train(plan, tmp_path / "part", after_step(5)).stopped
    last = f"checkpoints/{carry_over(tmp_path / 'part', tmp_path / 'next')}"
    assert not (tmp_path / "next" / last / "model" / "model.safetensors").exists()
    resumed = run(tmp_path / "next", tiny_encoder, CLASSIFIER, ADAPTER, resume_from=last)
    assert resumed.result.metrics == whole.result.metrics
    one, other = ((tmp_path / name / "artifact" / WEIGHTS).read_bytes() for name in ("whole", "next"))
    assert one == other


def test_jobs_go_on_from_an_adapter_and_adapters_lie_on_adapters(tiny_encoder: Path, tmp_path: Path) -> None:
    run(tmp_path / "first", tiny_encoder, CLASSIFIER, ADAPTER)
    first = on_its_base(tmp_path / "first" / "artifact", tiny_encoder)
    shutil.copytree(first, tmp_path / "second" / "base", symlinks=True)
    run(tmp_path / "second", first, CLASSIFIER, ADAPTER)
    second = tmp_path / "second" / "artifact"
    shutil.copytree(first, second / BASE, symlinks=True)
    shutil.copytree(second, tmp_path / "third" / "base", symlinks=True)

    trained = load_file(whole_model(second) / "model.safetensors")
    rows, settings = CLASSIFIER.rows, {"n_epochs": 1, "learning_rate": 1e-12, "weight_decay": 0.0}
    plan = make_plan(tmp_path / "third", second, rows, test=rows, task=CLASSIFIER.task, **settings)
    train(plan, tmp_path / "third")
    kept = load_file(tmp_path / "third" / "artifact" / "model.safetensors")
    pretrained = load_file(tiny_encoder / "model.safetensors")
    name = "encoder.layer.0.output.dense.weight"
    once = load_file(whole_model(first) / "model.safetensors")[f"bert.{name}"]
    assert len({tensor.sum().item() for tensor in (pretrained[name], once, trained[f"bert.{name}"])}) == 3
    for key, tensor in trained.items():  # the head too, as the labels are the same
        torch.testing.assert_close(kept[key], tensor, atol=1e-6, rtol=0)


@pytest.mark.parametrize("form_of_it", ["merged", "both"])
def test_a_merged_model_has_the_adapter_beside_it_only_where_it_was_asked_for(
    form_of_it: str, tiny_encoder: Path, tmp_path: Path
) -> None:
    run(tmp_path, tiny_encoder, CLASSIFIER, {"lora": {"artifact": form_of_it}}, n_epochs=1)
    assert (tmp_path / "artifact" / "model.safetensors").exists()
    assert (tmp_path / "artifact" / "adapter").exists() == (form_of_it == "both")


def test_an_adapter_on_a_model_that_it_was_not_made_for_is_refused(
    tiny_encoder: Path, tiny_bases: dict[str, Path], tmp_path: Path
) -> None:
    run(tmp_path / "first", tiny_encoder, CLASSIFIER, ADAPTER, n_epochs=1)
    first = on_its_base(tmp_path / "first" / "artifact", tmp_path / "nowhere")
    with pytest.raises(UserError, match="'local/tiny' cannot be merged into what it belongs on") as caught:
        run(tmp_path / "next", first, CLASSIFIER, {}, n_epochs=1)
    assert caught.value.code == "base_model_unreadable"


@pytest.mark.parametrize(
    ("probe", "named"),
    [
        (form(type="token-classification", head="crf"), "a conditional random field comes with a modelling file"),
        (FORMS["translation"], "two copies of an encoder"),
    ],
    ids=["crf", "warm-started"],
)
def test_what_no_adapter_can_make_is_refused_with_the_reason(
    probe: Probe, named: str, tiny_encoder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=named) as caught:
        run(tmp_path, tiny_encoder, probe, ADAPTER)
    assert caught.value.code == "lora_adapter_not_for_model"


@pytest.mark.skipif(torch.cuda.is_available(), reason="tests what a worker without a GPU says")
def test_quantization_without_a_gpu_is_refused_with_what_is_missing(tiny_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no CUDA device") as caught:
        run(tmp_path, tiny_encoder, CLASSIFIER, {"lora": ADAPTER["lora"] | {"quantization": "4bit"}})
    assert (caught.value.code, caught.value.param) == ("quantization_without_gpu", "adaptation.lora.quantization")


def test_quantized_weights_are_never_merged_into():
    with pytest.raises(ValueError, match='"artifact": "adapter", which is merged in full precision'):
        LoraOptions(quantization="8bit")
    assert LoraOptions(quantization="8bit", artifact="adapter").quantization == "8bit"


def test_an_adapter_alone_cannot_follow_a_stage_that_trains_the_base():
    for name in ("continued_pretraining", "meta_learning"):
        found = conflict({"lora": {"artifact": "adapter"}, name: None})
        assert found is not None
        assert found[:2] == ("lora", name)
        assert "trained before the adapter is" in found[2]
        assert conflict({"lora": {"artifact": "merged"}, name: None}) is None
    assert conflict({"swa": None, "ema": None}) is not None
