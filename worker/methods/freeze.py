"""Freezing: a part of the body stays as it is, bit for bit; the rest may move the slower the deeper it is."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Self, cast

import torch
from pydantic import BaseModel
from transformers import PreTrainedModel

from app.catalog.adaptation.freeze import FreezeOptions
from worker.training.failures import UserError
from worker.training.features import FrozenBody, Site
from worker.training.interfaces import Task
from worker.training.layers import is_embedding, layer_count, layer_of
from worker.training.method import Method, Moment

FEATURES = "features"  # a folder of the run directory


@dataclass
class Freeze(Method):
    """Freezes for good, for a while (gradual unfreezing), and slows down (layer-wise rates).

    `depth` says of each parameter that trains how many layers lie between it and the head: 0 for the head, 1 for the
    topmost layer and what is beside the layers, one more than there are layers for the embeddings.
    """

    options: FreezeOptions
    depth: dict[str, int] = field(default_factory=dict[str, int])

    @classmethod
    def from_options(cls, options: BaseModel) -> Self:
        """With a job's options."""
        return cls(cast(FreezeOptions, options))

    def adapt(self, model: PreTrainedModel, task: Task) -> PreTrainedModel:
        """Freeze for good. Raises UserError for layers and patterns that the model does not have."""
        names = [name for name, _ in model.named_parameters()]
        layers = layer_count(name for name in names if not task.is_head(name))
        self._check(names, layers)
        for name, parameter in model.named_parameters():
            head = task.is_head(name)
            parameter.requires_grad_(not self._stays(name, head=head))
            if parameter.requires_grad:
                self.depth[name] = 0 if head else _depth(name, layers)
        return model

    def _check(self, names: list[str], layers: int) -> None:
        if missing := sorted(number for number in self.options.numbers() if number >= layers):
            raise UserError(
                "freeze_no_such_layer",
                f"adaptation.freeze.layers names layer {missing[0]}, but the model has "
                + (f"layers 0 to {layers - 1}." if layers else "no numbered layers; use patterns."),
                "adaptation.freeze.layers",
                {"allowed": f"0-{layers - 1}"},
            )
        for pattern in self.options.patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                shown = ", ".join(names[:3] + names[-2:])
                raise UserError(
                    "freeze_no_such_parameter",
                    f"adaptation.freeze.patterns has {pattern!r}, which fits no parameter of the model. Names are "
                    f"like: {shown}.",
                    "adaptation.freeze.patterns",
                )

    def _stays(self, name: str, *, head: bool) -> bool:
        if any(fnmatchcase(name, pattern) for pattern in self.options.patterns):
            return True
        if head:
            return False
        in_part = self.options.names("embeddings") and is_embedding(name)
        return self.options.names("encoder") or in_part or layer_of(name) in self.options.numbers()

    def prepare(self, site: Site, others: Sequence[Method]) -> None:
        """With a body that is frozen whole: take dropout out of it, and compute what it makes of each text once."""
        model = cast(PreTrainedModel, site.model)
        trains = any(parameter.requires_grad for parameter in model.base_model.parameters())
        if trains or model.config.is_encoder_decoder or any(other.moves_embeddings for other in others):
            return
        body = FrozenBody.of(model, site.directory / FEATURES)
        if self.options.cache_features:
            body.compute(site)

    def rate_factor(self, parameter: str) -> float:
        """1 for the head and the topmost layer, `layer_decay` less for each layer further down."""
        return self.options.layer_decay ** max(0, self.depth.get(parameter, 0) - 1)

    def start_step(self, model: torch.nn.Module, moment: Moment) -> None:
        """Thaw what is due: one more layer every `gradual_unfreezing` epochs."""
        if self.options.gradual_unfreezing is None:
            return
        # A hair's breadth: 3 x 0.1 epochs are due after 0.3, whatever floating point makes of them.
        thawed = int(moment.epoch / self.options.gradual_unfreezing + 1e-9)
        thawed += min(self.depth.values())  # a head that is tied to the embeddings is none of its own
        for name, parameter in model.named_parameters():
            if name in self.depth:
                parameter.requires_grad_(self.depth[name] <= thawed)


def _depth(name: str, layers: int) -> int:
    if is_embedding(name):
        return layers + 1
    number = layer_of(name)
    return 1 if number is None else layers - number
