"""Domain-adversarial training (Ganin et al. 2016), and MMD (Long et al. 2015) and CORAL (Sun & Saenko 2016) beside it.

Training texts have labels and the task's loss; a second loss draws their features and those of target texts, which have
no labels, together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from app.catalog.adaptation.domain_adversarial import DomainAdversarialOptions
from app.catalog.records import extra
from worker.training.bodies import features_of, listening, reader_of, refuse_frozen
from worker.training.data import Batch, Examples, Records, collate, tokenize
from worker.training.domain_losses import coral, mmd, reversed_gradient, rising_weight
from worker.training.failures import UserError
from worker.training.features import Site
from worker.training.interfaces import Objective, Task
from worker.training.materials import Materials
from worker.training.method import Inner, Method, Moment
from worker.training.running import RunningMean

MOST_DOMAINS = 100
LISTED = 5  # rows that a message names
SMALLEST = 2  # texts of a domain in a batch that have a distance from one another
RECENT = 100  # batches that the reported means are over
DISTANCES = {"mmd": mmd, "coral": coral}


@dataclass
class DomainAdversarial(Method):
    """Sources are numbered by the names of their domains, in order; the target comes last.

    A batch's loss is the mean over its own texts and as many target texts, which (seed, step, batch of the step) draws.
    """

    options: DomainAdversarialOptions
    seed: int = 0
    sources: tuple[str, ...] = ("source",)
    source_of: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))  # of records, then of windows
    reader: nn.Module | None = None
    discriminator: nn.Module | None = None
    target: Examples | None = None
    moment: Moment = field(default_factory=lambda: Moment(0, 1, 0.0))
    batches: int = 0  # of this step, so far
    means: dict[str, RunningMean] = field(default_factory=dict[str, RunningMean])

    @classmethod
    def from_options(cls, options: BaseModel) -> Self:
        """With a job's options."""
        asked = cast(DomainAdversarialOptions, options)
        names = ("domain_loss", "domain_accuracy") if asked.loss == "dann" else ("domain_loss",)
        return cls(asked, means={name: RunningMean(RECENT) for name in names})

    def augment(self, train: Records, materials: Materials) -> Records:
        """Nothing is added; the records say which domains there are. Raises UserError for ones that do not say it."""
        self.seed = materials.seed
        column = self.options.domain_field
        if column is None:
            self.source_of = np.zeros(train.table.num_rows, np.int64)
        else:
            names: list[str | None] = train.column(extra(column).name)
            self.sources = _domains(names, train, column)
            numbers = {name: number for number, name in enumerate(self.sources)}
            self.source_of = np.array([numbers[cast(str, name)] for name in names], np.int64)
        return train

    def adapt(self, model: PreTrainedModel, task: Task) -> PreTrainedModel:
        """Build the discriminator. Raises UserError where the whole body is frozen."""
        self.reader = reader_of(model)
        refuse_frozen(self.reader, "domain_adversarial")
        if self.options.loss == "dann":
            width = cast(int, cast(Any, self.reader).config.hidden_size)
            hidden = self.options.hidden_size
            self.discriminator = nn.Sequential(
                nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, len(self.sources) + 1)
            )
        return model

    def modules(self) -> Mapping[str, nn.Module]:
        """The discriminator, where there is one."""
        return {} if self.discriminator is None else {"discriminator": self.discriminator}

    def prepare(self, site: Site, others: Sequence[Method]) -> None:
        """Tokenise the target texts, in windows of the task's length."""
        materials = site.materials
        texts = [text for records in materials.target for text in records.column("text")]
        tokenizer = materials.base.tokenizer
        windows = tokenize(texts, tokenizer, materials.max_length)
        self.target = Examples(
            inputs=windows.inputs,
            targets={},
            weight=np.ones(len(windows.record), np.float32),
            record=windows.record,
            pad_left=tokenizer.padding_side == "left",
        )
        self.source_of = self.source_of[site.splits()[0].record]

    def start_step(self, model: nn.Module, moment: Moment) -> None:
        """Know the weight of this step, and begin to count its batches."""
        self.moment, self.batches = moment, 0

    def objective(self, inner: Inner, model: nn.Module, batch: Batch) -> Objective:
        """With the loss of the domains, a mean over texts that has the batch's share in the step."""
        assert self.reader is not None
        with listening(self.reader) as heard:
            objective = inner(model, batch)
        assert heard.states is not None
        source = self._features(heard.states, batch.inputs["attention_mask"])
        device = source.device
        more = self._draw(len(batch.rows), device)
        with heard.precision(device):
            states = self.reader(**more.inputs).last_hidden_state
        target = self._features(states, more.inputs["attention_mask"])
        numbers = torch.from_numpy(self.source_of[batch.rows]).to(device)
        weight = self.options.weight
        if self.options.schedule == "rising":
            weight *= rising_weight(self.moment.step / self.moment.total_steps)
        added, values = self._compare(source, target, numbers, weight)
        for name, value in values.items():
            self.means[name].add(value)
        share = batch.weight.sum()
        sums = {name: value * share for name, value in values.items()}
        return Objective(objective.loss + added * share, objective.sums | sums)

    def _draw(self, count: int, device: torch.device) -> Batch:
        assert self.target is not None
        generator = np.random.default_rng((self.seed, self.moment.step, self.batches))
        self.batches += 1
        return collate(self.target, generator.integers(self.target.count, size=count), device)

    def _features(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self.options.features == "mean" and states.shape[1] != mask.shape[1]:
            raise UserError(
                "features_without_tokens",
                f"The body of this model makes {states.shape[1]} states of {mask.shape[1]} tokens, so there is no mean "
                'over tokens. Give adaptation.domain_adversarial.features as "first".',
                "adaptation.domain_adversarial.features",
                {"allowed": ["first"]},
            )
        return features_of(states, mask, self.options.features)

    def _compare(
        self, source: torch.Tensor, target: torch.Tensor, numbers: torch.Tensor, weight: float
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """What is added to the loss, and what to tell; features [texts, width], `numbers` are the sources' domains."""
        if self.options.loss == "dann":
            assert self.discriminator is not None
            logits = self.discriminator(reversed_gradient(torch.cat([source, target]), weight))
            domains = torch.cat([numbers, torch.full_like(numbers, len(self.sources))])
            loss = functional.cross_entropy(logits, domains)
            right = (logits.detach().argmax(dim=1) == domains).float().mean()
            return loss, {"domain_loss": loss.detach(), "domain_accuracy": right}
        parts = [source[numbers == number] for number in range(len(self.sources))]
        distance = DISTANCES[self.options.loss]
        found = [distance(part, target) for part in parts if min(len(part), len(target)) >= SMALLEST]
        loss = torch.stack(found).mean() if found else source.new_zeros(())
        return weight * loss, {"domain_loss": loss.detach()}

    def tensors(self, model: nn.Module) -> dict[str, torch.Tensor]:
        """The means so far."""
        return {name: mean.tensor() for name, mean in self.means.items()}

    def restore(self, model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
        """Go on with the means."""
        for name, mean in self.means.items():
            mean.restore(tensors[name])

    def report(self) -> dict[str, Any]:
        """How far apart the domains were at the end, to a discriminator that guesses 0.5 right without learning."""
        counts = np.bincount(self.source_of, minlength=len(self.sources)).tolist()
        return {
            "loss": self.options.loss,
            "source_windows": dict(zip(self.sources, counts, strict=True)),
            "target_windows": 0 if self.target is None else self.target.count,
            "batches_averaged": RECENT,
            **{name: mean.value() for name, mean in self.means.items()},
        }


def _domains(names: Sequence[str | None], train: Records, column: str) -> tuple[str, ...]:
    param = "adaptation.domain_adversarial.domain_field"
    rows = train.column("row")
    if missing := [row for name, row in zip(names, rows, strict=True) if name is None]:
        raise UserError(
            "domain_missing",
            f"{len(missing)} records of the training file {train.file.filename!r} have nothing in the column "
            f"{column!r}, which names their domain: rows {', '.join(map(str, missing[:LISTED]))}"
            f"{' …' if len(missing) > LISTED else ''}. Fill them in, or leave domain_field out.",
            param,
            {"rows": missing[:LISTED], "line": missing[0]},
        )
    found = sorted({name for name in names if name is not None})
    if len(found) > MOST_DOMAINS:
        raise UserError(
            "too_many_domains",
            f"The column {column!r} has {len(found)} different values; at most {MOST_DOMAINS} domains can be told "
            "apart. Give a column that names domains.",
            param,
            {"allowed": MOST_DOMAINS},
        )
    return tuple(found)
