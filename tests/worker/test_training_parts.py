import errno
from typing import Any, get_args

import numpy as np
import pytest
import torch
from transformers import get_scheduler

from app.catalog.hyperparameters import Scheduler
from worker.training.data import Examples, Ragged, collate
from worker.training.failures import UserError, failure_of
from worker.training.optimizer import adamw, decay_groups
from worker.training.pace import Pace
from worker.training.sampler import LengthBuckets, evaluation_batches
from worker.training.schedule import learning_rate, warmup_steps

LENGTHS = np.random.default_rng(1).integers(3, 90, 1003)


@pytest.mark.parametrize("name", get_args(Scheduler))
@pytest.mark.parametrize("warmup", [0, 7])
def test_the_learning_rate_is_that_of_the_scheduler_in_transformers(name: Scheduler, warmup: int) -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=3e-4)
    scheduler: Any = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=40)
    for step in range(40):
        assert learning_rate(name, 3e-4, step, warmup, 40) == pytest.approx(scheduler.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        scheduler.step()


def test_warm_up_is_rounded_up() -> None:
    assert [warmup_steps(ratio, 65) for ratio in (0.0, 0.1, 0.5)] == [0, 7, 33]


def test_an_epoch_has_every_example_once_and_the_next_epoch_another_order() -> None:
    sampler = LengthBuckets(LENGTHS, batch_size=16, accumulation=2, seed=3)
    epochs = [np.concatenate([np.concatenate(step) for step in sampler.epoch(epoch)]) for epoch in (0, 1)]
    assert [len(sampler.epoch(epoch)) for epoch in (0, 1)] == [sampler.steps_per_epoch] * 2
    assert all(sorted(order) == list(range(len(LENGTHS))) for order in epochs)
    assert epochs[0].tolist() != epochs[1].tolist()


def test_batches_hold_texts_of_similar_length() -> None:
    batches = [batch for step in LengthBuckets(LENGTHS, 16, 1, seed=3).epoch(0) for batch in step]
    padded = sum(len(batch) * LENGTHS[batch].max() for batch in batches)
    assert padded < 1.05 * LENGTHS.sum()


def test_evaluation_batches_hold_every_example_within_the_token_bound() -> None:
    batches = evaluation_batches(LENGTHS, 256)
    assert sorted(np.concatenate(batches)) == list(range(len(LENGTHS)))
    assert all(len(batch) * LENGTHS[batch].max() <= 256 for batch in batches)
    assert len(evaluation_batches(np.array([500, 2]), 256)) == 2


@pytest.mark.parametrize(
    ("left", "ids", "mask"),
    [
        (False, [[5, 6, 0], [7, 8, 9]], [[1, 1, 0], [1, 1, 1]]),
        (True, [[0, 5, 6], [7, 8, 9]], [[0, 1, 1], [1, 1, 1]]),
    ],
)
def test_a_batch_is_padded_to_its_longest_on_the_side_the_tokenizer_says(
    left: bool, ids: list[list[int]], mask: list[list[int]]
) -> None:
    ragged = Ragged(np.array([1, 5, 6, 7, 8, 9], dtype=np.int32), np.array([0, 1, 3, 6]), pad=0)
    ones = np.ones(3, dtype=np.float32)
    examples = Examples({"input_ids": ragged}, {"label": np.array([0, 1, 2])}, ones, np.arange(3), pad_left=left)
    batch = collate(examples, np.array([1, 2]), torch.device("cpu"))
    assert batch.inputs["input_ids"].tolist() == ids
    assert batch.inputs["attention_mask"].tolist() == mask
    assert batch.targets["label"].tolist() == [1, 2]


def test_biases_and_norms_do_not_decay_and_frozen_parameters_are_left_out() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 2))
    model[2].requires_grad_(False)
    groups = decay_groups(model, 1e-3, 0.1)
    assert [(len(group.parameters), group.weight_decay) for group in groups] == [(1, 0.1), (3, 0.0)]
    assert adamw(groups).defaults["fused"]


def test_the_estimate_covers_the_evaluations_and_checkpoints_still_to_come() -> None:
    pace = Pace()
    assert pace.eta_s(100, 0, 0) is None
    pace.trained(9.0, 10)  # the first step is slow
    pace.trained(2.0, 40)
    assert pace.examples_per_second() == 20
    assert pace.eta_s(100, 30, 1) == pytest.approx(5 + 30 / 20 / 3)
    pace.evaluated(4.0, 40)
    pace.saved(2.0)
    assert pace.eta_s(100, 30, 1) == pytest.approx(5 + 3 + 2)


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (UserError("one_label_only", "One label."), "user_error", "one_label_only"),
        (MemoryError(), "resource_error", "out_of_memory"),
        (torch.OutOfMemoryError("CUDA out of memory."), "resource_error", "out_of_memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "resource_error", "out_of_memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "resource_error", "disk_full"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "resource_error", "disk_full"),
        (ValueError("what\nthe reason is"), "system_error", "internal_error"),
    ],
)
def test_every_exception_becomes_a_typed_failure(error: Exception, kind: str, code: str) -> None:
    failure = failure_of(error)
    assert (failure.kind, failure.code) == (kind, code)


def test_a_system_error_carries_the_last_line_of_its_message() -> None:
    assert failure_of(ValueError("what\nthe reason is")).message == "ValueError: the reason is"
