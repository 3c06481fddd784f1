import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from worker.training.data import Batch
from worker.training.language_metrics import WindowTokens, language_detail, language_values, window_sums
from worker.training.vocabulary_head import token_losses

WINDOWS, WIDTH, VOCABULARY = 6, 20, 50


def predictions() -> tuple[torch.Tensor, torch.Tensor, list[WindowTokens]]:
    generator = torch.Generator().manual_seed(3)
    place = torch.randperm(WINDOWS * WIDTH, generator=generator)[:70].sort().values
    logits = 3 * torch.randn(70, VOCABULARY, generator=generator)
    tokens = torch.where(torch.rand(70, generator=generator) < 0.4, logits.argmax(dim=-1), place % VOCABULARY)
    ids = torch.zeros(WINDOWS, WIDTH, dtype=torch.long)
    batch = Batch({"input_ids": ids}, {"place": place}, torch.ones(WINDOWS), np.arange(WINDOWS))
    return logits, tokens, window_sums(batch, token_losses(logits, tokens), logits.argmax(dim=-1) == tokens)


def test_loss_perplexity_and_accuracy_are_those_of_torch() -> None:
    logits, tokens, windows = predictions()
    assert len(windows) == WINDOWS
    values = language_values(windows)
    loss = functional.cross_entropy(logits, tokens, reduction="none").double().mean().item()
    assert values["loss"] == pytest.approx(loss, abs=1e-9)
    assert values["perplexity"] == pytest.approx(math.exp(loss), rel=1e-9)
    assert values["token_accuracy"] == pytest.approx((logits.argmax(dim=-1) == tokens).double().mean().item(), abs=1e-9)


def test_intervals_hold_the_value_and_are_a_function_of_the_seed() -> None:
    _, _, windows = predictions()
    values, detail = language_values(windows * 20), language_detail(windows * 20, 5)
    assert detail["tokens"] == 70 * 20
    for name, (low, high) in detail["intervals"].items():
        assert low < values[name] < high
    assert detail == language_detail(windows * 20, 5)
    assert detail != language_detail(windows * 20, 6)


def test_intervals_are_those_of_a_plain_bootstrap_over_windows() -> None:
    _, _, windows = predictions()
    generator = np.random.default_rng(1)
    sums = np.array(windows * 20)
    samples = [sums[generator.integers(0, len(sums), len(sums))].sum(axis=0) for _ in range(4000)]
    low, high = np.percentile([loss / tokens for loss, _, tokens in samples], [2.5, 97.5])
    assert language_detail(windows * 20, 5)["intervals"]["loss"] == pytest.approx([low, high], rel=0.02)


def test_weights_that_have_diverged_give_an_infinite_perplexity() -> None:
    assert language_values([WindowTokens(9e5, 0, 10)])["perplexity"] == math.inf
