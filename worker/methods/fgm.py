"""FGM (Miyato, Dai & Goodfellow 2017): training also on word embeddings moved towards a greater loss."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
from pydantic import BaseModel

from app.catalog.adaptation.fgm import FgmOptions
from worker.training.data import Batch
from worker.training.interfaces import Objective
from worker.training.method import Inner, Method

TINY = 1e-12  # a text whose loss does not depend on its embeddings stays where it is


@dataclass
class Fgm(Method):
    """Adds the loss at e + r with r = epsilon g / |g|, g the gradient of the loss by a text's embeddings e."""

    moves_embeddings = True
    options: FgmOptions

    @classmethod
    def from_options(cls, options: BaseModel) -> Self:
        """With a job's options."""
        return cls(cast(FgmOptions, options))

    def objective(self, inner: Inner, model: torch.nn.Module, batch: Batch) -> Objective:
        """Both losses; metrics are those before the step."""
        embeddings = cast(torch.nn.Module, cast(Any, model).get_input_embeddings())
        with _seen(embeddings) as seen:
            clean = inner(model, batch)
        gradients = torch.autograd.grad(clean.loss, seen, retain_graph=True)
        with _moved(embeddings, [self.step(gradient) for gradient in gradients]):
            moved = inner(model, batch)
        loss = clean.loss + self.options.weight * moved.loss
        return Objective(loss, clean.sums | {"fgm": moved.loss.detach()})

    def step(self, gradient: torch.Tensor) -> torch.Tensor:
        """`epsilon` in the direction of `gradient` [texts, tokens, width], for each text by itself."""
        length = torch.linalg.vector_norm(gradient.float(), dim=tuple(range(1, gradient.ndim)), keepdim=True)
        return (self.options.epsilon * gradient / length.clamp_min(TINY)).detach()


@contextmanager
def _seen(embeddings: torch.nn.Module) -> Generator[list[torch.Tensor]]:
    """What the embeddings give out while this is open; a gradient by it can be asked for even where they are frozen."""
    seen: list[torch.Tensor] = []

    def hook(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        seen.append(output if output.requires_grad else output.detach().requires_grad_())
        return seen[-1]

    handle = embeddings.register_forward_hook(hook)
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def _moved(embeddings: torch.nn.Module, steps: list[torch.Tensor]) -> Generator[None]:
    """While this is open, the embeddings give out what they did, each time moved by the next of `steps`."""
    left = iter(steps)

    def hook(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return output + next(left)

    handle = embeddings.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
