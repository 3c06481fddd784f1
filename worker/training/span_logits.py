"""What a model says of each token as the first and the last of an answer, and the loss of the right ones."""

import torch
from torch.nn import functional

from worker.training.data import Batch


def logits_of(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of each token as the first and as the last of the answer, [batch, tokens]; none for padding."""
    output = model(**batch.inputs)
    padding = batch.inputs["attention_mask"] == 0
    return tuple(
        logits.float().masked_fill(padding, float("-inf")) for logits in (output.start_logits, output.end_logits)
    )


def shift_of(batch: Batch) -> torch.Tensor:
    """Padding on the left, [batch]."""
    return batch.inputs["attention_mask"].argmax(dim=1)


def place_of(batch: Batch, target: str) -> torch.Tensor:
    """A token's place in the batch, [batch]."""
    return batch.targets[target] + shift_of(batch)


def losses_of(starts: torch.Tensor, ends: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Mean cross-entropy of the answer's first and last token, [batch]."""
    first = functional.cross_entropy(starts, place_of(batch, "start"), reduction="none")
    last = functional.cross_entropy(ends, place_of(batch, "end"), reduction="none")
    return (first + last) / 2
