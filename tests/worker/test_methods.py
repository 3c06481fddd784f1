"""Methods of adaptation against small independent computations."""

from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import BertForSequenceClassification

from app.catalog.adaptation.ema import EmaOptions
from app.catalog.adaptation.fgm import FgmOptions
from app.catalog.adaptation.l2_sp import L2SpOptions
from app.catalog.adaptation.lora import LoraOptions
from tests.worker.small_bert import small_bert
from worker.methods.ema import Ema
from worker.methods.fgm import Fgm
from worker.methods.l2_sp import L2Sp
from worker.methods.lora import Lora
from worker.methods.mixout import mixed
from worker.training.adaptation import Adaptation
from worker.training.data import Batch
from worker.training.interfaces import Objective
from worker.training.layers import is_embedding, layer_count, layer_of
from worker.training.optimizer import Rates, adamw

HEADS = ("classifier.",)


class Classifying:
    """What methods ask of a task."""

    def is_head(self, parameter: str) -> bool:
        return parameter.startswith(HEADS)


TASK: Any = Classifying()


@pytest.fixture
def model() -> BertForSequenceClassification:
    return small_bert(layers=2)


def batch() -> Batch:
    ids = torch.tensor([[2, 5, 7, 9], [3, 4, 0, 0], [1, 1, 6, 0]])
    return Batch(
        inputs={"input_ids": ids, "attention_mask": (ids > 0).long()},
        targets={"label": torch.tensor([0, 1, 1])},
        weight=torch.tensor([1.0, 2.0, 0.5]),
        rows=torch.arange(3).numpy(),
    )


def cross_entropy(model: torch.nn.Module, batch: Batch) -> Objective:
    losses = functional.cross_entropy(model(**batch.inputs).logits, batch.targets["label"], reduction="none")
    return Objective((losses * batch.weight).sum(), {})


def gradients(loss: torch.Tensor, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    names = [name for name, _ in model.named_parameters()]
    found = torch.autograd.grad(loss, [parameter for _, parameter in model.named_parameters()], allow_unused=True)
    return {name: value for name, value in zip(names, found, strict=True) if value is not None}


def test_biases_and_norms_do_not_decay_and_frozen_parameters_are_left_out(model: BertForSequenceClassification):
    adaptation = Adaptation.of(TASK, {"freeze": {"layers": ["embeddings", "0-1"]}})
    groups = adaptation.parameter_groups(adaptation.adapt(model), Rates(1e-3, 1e-3, 0.1))
    # The pooler's and the classifier's matrix and bias.
    assert [(len(group.parameters), group.weight_decay) for group in groups] == [(2, 0.1), (2, 0.0)]
    assert adamw(groups).defaults["fused"]


def test_a_head_has_a_rate_of_its_own_and_rates_fall_from_layer_to_layer(model: BertForSequenceClassification):
    adaptation = Adaptation.of(TASK, {"freeze": {"layer_decay": 0.5}})
    groups = adaptation.parameter_groups(adaptation.adapt(model), Rates(1e-3, 5e-2, 0.1))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rates = {names[id(parameter)]: group.peak_rate for group in groups for parameter in group.parameters}
    assert groups[0].peak_rate == 1e-3
    assert len(rates) == len(names)
    assert rates["classifier.weight"] == 5e-2
    assert rates["bert.pooler.dense.weight"] == rates["bert.encoder.layer.1.output.dense.weight"] == 1e-3
    assert rates["bert.encoder.layer.0.output.LayerNorm.bias"] == 5e-4
    assert rates["bert.embeddings.word_embeddings.weight"] == 2.5e-4


def test_the_gradient_of_l2_sp_is_that_of_the_distance(model: BertForSequenceClassification):
    method = L2Sp.from_options(L2SpOptions(alpha=0.3, beta=0.07))
    method.adapt(model, TASK)
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    examples = batch()
    plain = gradients(cross_entropy(model, examples).loss, model)
    objective = method.objective(cross_entropy, model, examples)
    for name, gradient in gradients(objective.loss, model).items():
        parameter = dict(model.named_parameters())[name].detach()
        pull = 0.07 * parameter if name.startswith(HEADS) else 0.3 * (parameter - start[name])
        expected = plain.get(name, torch.zeros_like(parameter)) + pull * 3.5  # the weights of the batch's examples
        torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-5)


def test_fgm_trains_on_embeddings_moved_along_their_own_gradient(model: BertForSequenceClassification):
    examples = batch()
    method = Fgm.from_options(FgmOptions(epsilon=0.5, weight=0.25))
    objective = method.objective(cross_entropy, model, examples)

    table = model.bert.embeddings.word_embeddings.weight

    def at(embedded: torch.Tensor) -> torch.Tensor:
        logits = model(inputs_embeds=embedded, attention_mask=examples.inputs["attention_mask"]).logits
        losses = functional.cross_entropy(logits, examples.targets["label"], reduction="none")
        return (losses * examples.weight).sum()

    words = functional.embedding(examples.inputs["input_ids"], table)
    (gradient,) = torch.autograd.grad(at(words), words)
    steps = torch.stack([0.5 * one / one.norm() for one in gradient])
    words = functional.embedding(examples.inputs["input_ids"], table)
    expected = at(words) + 0.25 * at(words + steps)
    torch.testing.assert_close(objective.loss, expected)
    # The padding's row takes no gradient in the model; elsewhere both computations agree.
    ours, theirs = gradients(objective.loss, model), gradients(expected, model)
    for name in theirs:
        torch.testing.assert_close(ours[name][1:], theirs[name][1:], atol=1e-6, rtol=1e-4)
    assert not model.bert.embeddings.word_embeddings._forward_hooks


def test_fgm_reaches_frozen_embeddings(model: BertForSequenceClassification):
    model.bert.requires_grad_(False)
    objective = Fgm.from_options(FgmOptions()).objective(cross_entropy, model, batch())
    assert objective.sums["fgm"] > cross_entropy(model, batch()).loss
    assert set(gradients_of_trained(objective.loss, model)) == {"classifier.weight", "classifier.bias"}


def gradients_of_trained(loss: torch.Tensor, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    return dict(zip(trained, torch.autograd.grad(loss, list(trained.values())), strict=True))


def test_mixout_takes_the_share_of_pretrained_weights_and_keeps_the_mean():
    torch.manual_seed(1)
    weight, start, p = torch.full((400, 500), 2.0), torch.full((400, 500), -1.0), 0.3
    found = mixed(weight, start, p)
    # (M start + (1 - M) weight - p start) / (1 - p)
    low, high = (-1.0 + 0.3) / 0.7, (2.0 + 0.3) / 0.7
    torch.testing.assert_close(found.unique(), torch.tensor([low, high]))
    assert (found < 0).float().mean().item() == pytest.approx(p, abs=0.005)
    assert found.mean().item() == pytest.approx(2.0, abs=0.02)


def test_mixout_with_pretrained_weights_changes_nothing():
    weight = torch.randn(5, 7)
    torch.testing.assert_close(mixed(weight, weight, 0.6), weight)


def test_ema_is_the_moving_average_and_the_weights_come_back(model: BertForSequenceClassification):
    method = Ema.from_options(EmaOptions(decay=0.5))
    expected: torch.Tensor | None = None
    weight = model.classifier.weight
    for step in range(1, 8):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        method.finish_step(model, step)
        decay = min(0.5, (1 + step) / (10 + step))
        now = weight.detach().clone()
        expected = now if expected is None else decay * expected + (1 - decay) * now
    assert expected is not None
    last = weight.detach().clone()
    with method.evaluated(model):
        torch.testing.assert_close(weight.detach(), expected)
    assert torch.equal(weight, last)
    kept = method.tensors(model)
    assert torch.equal(kept["classifier.weight"], last)
    method.settle(model)
    torch.testing.assert_close(weight.detach(), expected)
    with method.evaluated(model):
        torch.testing.assert_close(weight.detach(), expected)


def test_lora_starts_as_the_pretrained_model_and_trains_two_matrices_a_layer(model: BertForSequenceClassification):
    examples = batch()
    before = model(**examples.inputs).logits.detach()
    Lora.from_options(LoraOptions(r=2, alpha=4.0)).adapt(model, TASK)
    torch.testing.assert_close(model(**examples.inputs).logits.detach(), before)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    linear_layers = 2 * 6  # of two layers: query, key, value, and three called dense
    assert len([name for name in trained if ".lora_A." in name]) == linear_layers
    assert len([name for name in trained if ".lora_B." in name]) == linear_layers
    assert {name for name in trained if ".lora_" not in name} == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize(
    ("parameter", "layer", "embedding"),
    [
        ("bert.embeddings.word_embeddings.weight", None, True),
        ("bert.encoder.layer.11.output.dense.weight", 11, False),
        ("bert.pooler.dense.weight", None, False),
        ("distilbert.transformer.layer.3.ffn.lin1.weight", 3, False),
        ("albert.encoder.albert_layer_groups.0.albert_layers.0.ffn.weight", 0, False),
        ("electra.embeddings_project.weight", None, True),
        ("deberta.encoder.rel_embeddings.weight", None, False),
        ("transformer.wte.weight", None, True),
        ("transformer.h.7.attn.c_attn.weight", 7, False),
        ("transformer.ln_f.weight", None, False),
        ("transformer.layer.2.rel_attn.q", 2, False),
        ("model.embed_tokens.weight", None, True),
        ("model.layers.0.mlp.up_proj.weight", 0, False),
        ("model.layers.1.attn_norm.weight", 1, False),
        ("model.embeddings.tok_embeddings.weight", None, True),
        ("shared.weight", None, True),
        ("encoder.block.4.layer.0.SelfAttention.q.weight", 4, False),
        ("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", 0, False),
        ("model.decoder.layers.5.fc1.weight", 5, False),
        ("model.encoder.embed_positions.weight", None, True),
        ("classifier.weight", None, False),
    ],
)
def test_layers_and_embeddings_are_found_by_name(parameter: str, layer: int | None, embedding: bool):
    assert (layer_of(parameter), is_embedding(parameter)) == (layer, embedding)


def test_layers_are_counted():
    assert layer_count(["a.layer.0.w", "a.layer.5.w", "b.layers.2.w", "embeddings.w"]) == 6
    assert layer_count(["classifier.weight"]) == 0
