"""How far apart two sets of features are: what draws the domains of a model's texts together. All in fp32."""

import math
from typing import Any, cast

import torch

KERNELS = (0.25, 0.5, 1.0, 2.0, 4.0)  # variances of the kernels, in units of the mean squared distance


def rising_weight(done: float) -> float:
    """2 / (1 + exp(-10 p)) - 1 for the share `done` of the steps (Ganin et al. 2016, section 5.2.2)."""
    return 2 / (1 + math.exp(-10 * done)) - 1


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: torch.Tensor, factor: float) -> torch.Tensor:
        ctx.factor = factor
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return -ctx.factor * gradients[0], None


def reversed_gradient(features: torch.Tensor, factor: float) -> torch.Tensor:
    """The features themselves; the gradient that goes back through them is times `-factor` (Ganin et al. 2016)."""
    return cast(torch.Tensor, _Reversed.apply(features, factor))


def coral(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """|C_s - C_t|_F^2 / (4 d^2), covariances of features [texts, d], at least two each (Sun & Saenko 2016, eq. 1)."""
    width = source.shape[1]
    return (torch.cov(source.T) - torch.cov(target.T)).square().sum() / (4 * width**2)


def mmd(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Squared maximum mean discrepancy of features [texts, d], at least two each.

    The kernel is the mean of Gaussians exp(-|x - y|^2 / s) (Long et al. 2015), s being KERNELS times the mean squared
    distance of two different texts of the batch, through which no gradient goes. The estimate is the unbiased one
    (Gretton et al. 2012, eq. 3), which is below 0 where the domains are as alike as two samples of one.
    """
    both = torch.cat([source, target])
    squares = both.square().sum(dim=1)
    distances = (squares[:, None] + squares[None, :] - 2 * both @ both.T).clamp_min(0)
    texts, first = len(both), len(source)
    scale = (distances.detach().sum() / (texts * (texts - 1))).clamp_min(torch.finfo(distances.dtype).tiny)
    kernel = torch.stack([(-distances / (factor * scale)).exp() for factor in KERNELS]).mean(dim=0)
    return (
        _between_different(kernel[:first, :first])
        + _between_different(kernel[first:, first:])
        - 2 * kernel[:first, first:].mean()
    )


def _between_different(kernel: torch.Tensor) -> torch.Tensor:
    """Mean of a square matrix without its diagonal."""
    count = len(kernel)
    return (kernel.sum() - kernel.diagonal().sum()) / (count * (count - 1))
