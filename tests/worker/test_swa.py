"""Stochastic weight averaging against the mean of the weights that a run went through."""

import pytest
import torch

from app.catalog.adaptation.swa import SwaOptions
from worker.methods.swa import Swa
from worker.training.checkpoint import CheckpointError
from worker.training.method import Moment

STEPS = 8


def step(method: Swa, model: torch.nn.Module, number: int) -> None:
    """The step of this number, counted from 1: weights move at random where they train."""
    method.start_step(model, Moment(number - 1, STEPS, 0.0))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    method.finish_step(model, number)


@pytest.mark.parametrize(("start", "first"), [(0.75, 7), (0.5, 5), (0.0, 1), (0.7, 6), (0.99, 8)])
def test_it_is_the_mean_of_the_weights_from_there_on(start: float, first: int):
    torch.manual_seed(4)
    model = torch.nn.Linear(3, 2)
    method = Swa.from_options(SwaOptions(start=start))
    seen: list[torch.Tensor] = []
    for number in range(1, STEPS + 1):
        step(method, model, number)
        seen.append(model.weight.detach().clone())
        with method.evaluated(model):
            expected = torch.stack(seen[first - 1 :]).mean(dim=0) if number >= first else seen[-1]
            torch.testing.assert_close(model.weight.detach(), expected)
        assert torch.equal(model.weight.detach(), seen[-1])
    method.settle(model)
    torch.testing.assert_close(model.weight.detach(), torch.stack(seen[first - 1 :]).mean(dim=0))


def test_what_thaws_later_counts_with_what_it_was_before():
    torch.manual_seed(4)
    model = torch.nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    method = Swa.from_options(SwaOptions(start=0.5))
    seen: list[torch.Tensor] = []
    for number in range(1, STEPS + 1):
        model.bias.requires_grad_(number > 6)
        step(method, model, number)
        seen.append(model.bias.detach().clone())
    method.settle(model)
    torch.testing.assert_close(model.bias.detach(), torch.stack(seen[4:]).mean(dim=0))


def test_a_checkpoint_without_the_weights_beside_the_average_is_refused_only_where_there_is_one():
    model = torch.nn.Linear(3, 2)
    method = Swa.from_options(SwaOptions(start=0.5))
    method.start_step(model, Moment(2, STEPS, 0.0))
    method.restore(model, {})
    method.start_step(model, Moment(5, STEPS, 0.0))
    with pytest.raises(CheckpointError, match="no weights beside the average for weight, bias"):
        method.restore(model, {})
