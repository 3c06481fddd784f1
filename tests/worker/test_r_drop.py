"""R-Drop against the divergences that torch's own distributions compute."""

from typing import Any

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, kl_divergence

from app.catalog.adaptation.r_drop import RDropOptions
from worker.methods.r_drop import RDrop, divergence
from worker.training.interfaces import Objective, Predictions

WEIGHT = torch.tensor([1.0, 2.0, 0.5])
NOTHING: Any = None  # the objective is given, so that neither model nor batch is looked at


def objective(*predictions: Predictions, loss: float = 0.0) -> Objective:
    return Objective(torch.tensor(loss), {"accuracy": torch.tensor(loss)}, predictions)


def two(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(2)
    return torch.randn(*shape, requires_grad=True), torch.randn(*shape, requires_grad=True)


def softmax(logits: torch.Tensor, weight: torch.Tensor = WEIGHT) -> Predictions:
    return Predictions("softmax", logits, weight)


def test_of_labels_it_is_the_mean_of_both_divergences():
    one, other = two(3, 4)
    p, q = Categorical(logits=one), Categorical(logits=other)
    expected = ((kl_divergence(p, q) + kl_divergence(q, p)) / 2 * WEIGHT).sum()
    found = divergence(objective(softmax(one)), objective(softmax(other)))
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(
        torch.autograd.grad(found, (one, other)), torch.autograd.grad(expected, (one, other)), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_of_several_labels_a_text_it_is_the_mean_over_labels():
    one, other = two(3, 5)
    p, q = Bernoulli(logits=one), Bernoulli(logits=other)
    expected = ((kl_divergence(p, q) + kl_divergence(q, p)).mean(dim=1) / 2 * WEIGHT).sum()
    found = divergence(objective(Predictions("sigmoid", one, WEIGHT)), objective(Predictions("sigmoid", other, WEIGHT)))
    torch.testing.assert_close(found, expected)


def test_of_numbers_it_is_the_squared_difference():
    one, other = two(3, 1)
    found = divergence(objective(Predictions("number", one, WEIGHT)), objective(Predictions("number", other, WEIGHT)))
    torch.testing.assert_close(found, ((one - other)[:, 0] ** 2 * WEIGHT).sum())


def test_tokens_count_by_their_weights_and_padding_not_at_all():
    one, other = two(3, 6, 4)
    weight = torch.rand(3, 6)
    weight[:, 4:] = 0
    p, q = Categorical(logits=one), Categorical(logits=other)
    expected = ((kl_divergence(p, q) + kl_divergence(q, p)) / 2 * weight)[:, :4].sum()
    torch.testing.assert_close(divergence(objective(softmax(one, weight)), objective(softmax(other, weight))), expected)


def test_places_that_no_answer_can_have_leave_value_and_gradient_finite():
    one, other = two(3, 4)
    padding = torch.tensor([[False, False, False, True]]).expand(3, 4)
    masked = [logits.masked_fill(padding, float("-inf")) for logits in (one, other)]
    found = divergence(objective(softmax(masked[0])), objective(softmax(masked[1])))
    p, q = Categorical(logits=one[:, :3]), Categorical(logits=other[:, :3])
    torch.testing.assert_close(found, ((kl_divergence(p, q) + kl_divergence(q, p)) / 2 * WEIGHT).sum())
    gradients = torch.autograd.grad(found, (one, other))
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert all((gradient[:, 3] == 0).all() for gradient in gradients)


def test_starts_and_ends_both_count():
    one, other = two(3, 4)
    both = divergence(objective(softmax(one), softmax(other)), objective(softmax(other), softmax(one)))
    torch.testing.assert_close(both, 2 * divergence(objective(softmax(one)), objective(softmax(other))))


@pytest.mark.parametrize("alpha", [0.1, 4.0])
def test_the_loss_is_the_mean_of_both_and_the_weighed_divergence(alpha: float):
    one, other = two(3, 4)
    passes = iter([objective(softmax(one), loss=3.0), objective(softmax(other), loss=5.0)])
    found = RDrop.from_options(RDropOptions(alpha=alpha)).objective(lambda model, batch: next(passes), NOTHING, NOTHING)
    apart = divergence(objective(softmax(one)), objective(softmax(other)))
    torch.testing.assert_close(found.loss, 4.0 + alpha * apart)
    assert float(found.sums["accuracy"]) == 4.0
    torch.testing.assert_close(found.sums["r_drop"], apart.detach())
