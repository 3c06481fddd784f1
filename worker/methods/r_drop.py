"""R-Drop (Wu et al. 2021): two passes with different dropout, and a penalty on how far their outputs are apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, cast

import numpy as np
import torch
from pydantic import BaseModel
from torch.nn import functional

from app.catalog.adaptation.r_drop import RDropOptions
from worker.training.data import Batch, collate
from worker.training.failures import UserError
from worker.training.features import Site
from worker.training.interfaces import Objective, Predictions
from worker.training.method import Inner, Method

TRIED_WINDOWS = 4  # enough to see whether two passes differ


@dataclass
class RDrop(Method):
    """The mean of both passes' losses + alpha x the divergence of their predictions."""

    options: RDropOptions

    @classmethod
    def from_options(cls, options: BaseModel) -> Self:
        """With a job's options."""
        return cls(cast(RDropOptions, options))

    def prepare(self, site: Site, others: Sequence[Method]) -> None:
        """Raises UserError where two passes are the same: there would be nothing to bring together."""
        train = site.splits()[0]
        batch = collate(train, np.arange(min(TRIED_WINDOWS, train.count)), site.device, epoch=0)
        site.model.train()
        with torch.random.fork_rng(), torch.no_grad():
            first, second = (site.task.objective(site.model, batch) for _ in range(2))
        if float(divergence(first, second)) == 0:
            raise UserError(
                "r_drop_without_dropout",
                "adaptation.r_drop compares two passes that differ by dropout, and this model has none where it "
                "trains: both passes are the same. Leave r_drop out, train the body too where it is frozen, or add "
                '"lora": {"dropout": 0.1}, whose matrices have dropout of their own.',
                "adaptation.r_drop",
            )

    def objective(self, inner: Inner, model: torch.nn.Module, batch: Batch) -> Objective:
        """Metrics are means of both passes; `r_drop` is the divergence before it is weighed."""
        first, second = inner(model, batch), inner(model, batch)
        apart = divergence(first, second)
        sums = {name: (value + second.sums[name]) / 2 for name, value in first.sums.items()}
        return Objective(
            (first.loss + second.loss) / 2 + self.options.alpha * apart,
            sums | {"r_drop": apart.detach()},
            first.predictions,
        )


def divergence(first: Objective, second: Objective) -> torch.Tensor:
    """How far the predictions of two passes over one batch are apart: a weighted sum, as the loss is one. Scalar."""
    pairs = zip(first.predictions, second.predictions, strict=True)
    return torch.stack([(_apart(one, other) * one.weight).sum() for one, other in pairs]).sum()


def _apart(one: Predictions, other: Predictions) -> torch.Tensor:
    """(KL(p, q) + KL(q, p)) / 2 = sum (p - q) (log p - log q) / 2 of each row, equation 3 of the paper.

    For yes and no, the mean over outputs of the same over the two; for numbers, the mean squared difference.
    """
    first, second = one.logits.float(), other.logits.float()
    match one.form:
        case "softmax":
            p, q = functional.log_softmax(first, dim=-1), functional.log_softmax(second, dim=-1)
            # A place that cannot be chosen, such as padding, has the logarithm -inf in both.
            impossible = torch.isneginf(p) & torch.isneginf(q)
            p, q = p.masked_fill(impossible, 0.0), q.masked_fill(impossible, 0.0)
            return ((p.exp() - q.exp()) * (p - q)).sum(dim=-1) / 2
        case "sigmoid":
            # log p - log q for yes less that for no is the difference of the logits.
            return ((first.sigmoid() - second.sigmoid()) * (first - second)).mean(dim=-1) / 2
        case "number":
            return (first - second).square().mean(dim=-1)
