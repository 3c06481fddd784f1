import errno
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import get_scheduler

from app.catalog.hyperparameters import Scheduler
from app.catalog.plan import DataFile
from worker.training.data import Examples, Ragged, Records, collate
from worker.training.evaluation import rank
from worker.training.failures import UserError, failure_of
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


def test_ragged_targets_are_padded_to_the_longest_of_the_batch_and_keep_their_type() -> None:
    ids = Ragged.of([[1, 2, 3], [4], [5, 6]], np.int32, pad=0)
    spans = Ragged.of([[7], [8, 9], []], np.int64, pad=-1)
    numbers = Ragged.of([[0.5], [], [1.5, 2.5]], np.float32, pad=0.0)
    ones = np.ones(3, dtype=np.float32)
    dense = np.arange(6).reshape(3, 2)
    examples = Examples(
        {"input_ids": ids}, {"spans": spans, "numbers": numbers, "dense": dense}, ones, np.arange(3), True
    )
    batch = collate(examples, np.array([1, 2]), torch.device("cpu"))
    assert batch.inputs["input_ids"].tolist() == [[0, 4], [5, 6]]
    assert batch.targets["spans"].tolist() == [[8, 9], [-1, -1]]
    assert batch.targets["numbers"].dtype == torch.float32
    assert batch.targets["numbers"].tolist() == [[0.0, 0.0], [1.5, 2.5]]
    assert batch.targets["dense"].tolist() == [[2, 3], [4, 5]]
    assert batch.rows.tolist() == [1, 2]


def test_a_sample_of_records_is_repeatable_and_in_order() -> None:
    file = DataFile(path="x", file_id="x", filename="x", sha256="x", rows=100)
    records = Records("validation", file, pa.table({"row": list(range(100))}))
    assert records.sample(100, seed=1) is records
    rows = records.sample(10, seed=1).column("row")
    assert rows == sorted(rows)
    assert len(set(rows)) == 10
    assert rows == records.sample(10, seed=1).column("row") != records.sample(10, seed=2).column("row")


@pytest.mark.parametrize(
    ("metric", "lower", "better", "worse"),
    [
        ("f1", False, {"f1": 0.5, "loss": 2.0}, {"f1": 0.4, "loss": 1.0}),
        ("f1", False, {"f1": 0.5, "loss": 1.0}, {"f1": 0.5, "loss": 2.0}),
        ("perplexity", True, {"perplexity": 4.0}, {"perplexity": 5.0}),
    ],
)
def test_the_best_evaluation_is_the_highest_or_lowest_and_of_equals_that_with_the_lower_loss(
    metric: str, lower: bool, better: dict[str, float], worse: dict[str, float]
) -> None:
    assert rank(metric, better, lower_is_better=lower) > rank(metric, worse, lower_is_better=lower)


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
