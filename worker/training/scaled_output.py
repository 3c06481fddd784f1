"""A head for regression that is trained in units of the targets' spread and saved in the targets' own."""

from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from worker.training.classifier import output_layer


class ScaledLinear(nn.Linear):
    """A linear layer whose output is `scale` times that of its parameters.

    Its state dict holds the parameters that a plain `nn.Linear` needs for the same output. As `scale` is a power of
    two, saving and loading give the very same ones back. It computes in fp32 under autocast too:
    bf16 has no three digits.
    """

    def __init__(self, layer: nn.Linear, scale: float) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=cast(Any, layer.bias) is not None, device="meta")
        self.scale = scale
        self.weight = layer.weight
        self.bias = layer.bias
        self.register_state_dict_post_hook(_to_units_of_the_targets)
        self.register_load_state_dict_pre_hook(_to_units_of_the_spread)

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 (torch's name)
        """Outputs in the units of the targets."""
        with torch.autocast(input.device.type, enabled=False):
            return functional.linear(input.float(), self.weight, self.bias) * self.scale


def scale_output(model: PreTrainedModel, scale: float, start: float | None) -> None:
    """Make the one output of `model` a ScaledLinear.

    A fresh head starts around `start`, where it has a bias, and about as far from there as one without a scale would in
    units of the spread. `start` is None for a trained head, whose outputs stay what they are.
    """
    name, layer = output_layer(model)
    bias = cast("nn.Parameter | None", layer.bias)
    with torch.no_grad():
        if start is None:
            for parameter in layer.parameters():
                parameter.div_(scale)
        elif bias is not None:
            bias.fill_(start / scale)
    model.set_submodule(name, ScaledLinear(layer, scale))


def _to_units_of_the_targets(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    _multiply(module, state, prefix, cast(float, module.scale))


def _to_units_of_the_spread(module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    _multiply(module, state, prefix, 1 / cast(float, module.scale))


def _multiply(module: nn.Module, state: dict[str, Any], prefix: str, factor: float) -> None:
    for name, _ in module.named_parameters():
        state[prefix + name] = state[prefix + name] * factor
