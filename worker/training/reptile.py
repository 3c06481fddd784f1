"""The stage of meta-learning by Reptile (Nichol, Achiam & Schulman 2018): several sources, read as the job's own task.

The start that it finds lies between the ends of short trainings on the sources.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self, cast

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pydantic import BaseModel

from app.catalog.adaptation.meta_learning import NAME, MetaLearningOptions
from app.catalog.hyperparameters import ResolvedHyperparameters
from worker.protocol import Log
from worker.training.adaptation import Adaptation
from worker.training.checkpoint import CheckpointError
from worker.training.data import Records
from worker.training.failures import UserError
from worker.training.features import Site
from worker.training.method import Method
from worker.training.sampler import Sampler
from worker.training.stage import Stage


def reptile_stage(main: Stage, original: Records) -> Stage:
    """Rounds on the sources with the task of the job. Raises UserError for labels that it does not have."""
    plan = main.run.plan
    options = MetaLearningOptions.model_validate(plan.adaptation[NAME])
    sources = main.run.materials.files_of(NAME)
    for key, records in sources.items():
        _check_labels(key, records, main)
    names = [field.name for field in main.variant.fields]
    tables = [records.table.select([*names, "row"]) for records in sources.values()]
    source_of = np.repeat(np.arange(len(tables)), [table.num_rows for table in tables])
    together = Records("train", plan.train, pa.concat_tables(tables))
    reptile = Reptile(options)

    def rounds(lengths: NDArray[np.int64], chosen: ResolvedHyperparameters) -> Sampler:
        of_window = source_of[stage.splits["train"].examples.record]
        return Rounds(
            tuple(np.flatnonzero(of_window == place) for place in range(len(tables))),
            options.rounds,
            options.inner_steps,
            chosen.batch_size,
            chosen.gradient_accumulation_steps,
            plan.seed,
        )

    stage = replace(
        main,
        name=NAME,
        adaptation=Adaptation(main.task, {NAME: reptile}),
        records={"train": together},
        asked=main.asked.model_copy(update={"early_stopping_patience": None, "max_steps": None, "n_epochs": 1}),
        shape=rounds,
    )
    main.run.emit(Log(f"Meta-learning reads {together.table.num_rows:,} records of {len(tables)} sources"))
    return stage


def _check_labels(key: str, records: Records, main: Stage) -> None:
    target = main.variant.target
    if target is None or target.type not in ("label", "labels", "tags") or main.task.labels is None:
        return
    values = records.column(target.name)
    found = set(values) if target.type == "label" else {label for row in values for label in row}
    if unknown := sorted(found - set(main.task.labels)):
        raise UserError(
            "meta_learning_unknown_label",
            f"adaptation.{NAME}.{key} ({records.file.filename!r}) has labels that the training file never shows: "
            f"{', '.join(map(repr, unknown[:10]))}. Labels of the training file: "
            f"{', '.join(map(repr, main.task.labels[:10]))}. Rename them, or leave the file out.",
            f"adaptation.{NAME}.{key}",
            {"allowed": main.task.labels[:1000]},
        )


@dataclass
class Reptile(Method):
    """After each round w = s + e (w - s), with s the weights before it and e falling from `step_size` to 0."""

    options: MetaLearningOptions
    start: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])

    @classmethod
    def from_options(cls, options: BaseModel) -> Self:
        """With a job's options."""
        return cls(cast(MetaLearningOptions, options))

    def prepare(self, site: Site, others: Sequence[Method]) -> None:
        """Remember the weights before the first round."""
        self.start = {
            name: parameter.detach().clone()
            for name, parameter in site.model.named_parameters()
            if parameter.requires_grad
        }

    def finish_step(self, model: torch.nn.Module, step: int) -> None:
        """At the end of a round: go back most of the way."""
        done, within = divmod(step, self.options.inner_steps)
        if within:
            return
        share = self.options.step_size * (1 - (done - 1) / self.options.rounds)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in self.start:
                    parameter.copy_(torch.lerp(self.start[name], parameter, share))
                    self.start[name].copy_(parameter)

    def tensors(self, model: torch.nn.Module) -> dict[str, torch.Tensor]:
        """The weights before the present round."""
        return {name: tensor.detach().cpu().clone() for name, tensor in self.start.items()}

    def restore(self, model: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
        """Put them back."""
        if missing := [name for name in self.start if name not in tensors]:
            raise CheckpointError(f"the checkpoint has no weights before the round for {', '.join(missing[:5])}")
        for name, tensor in self.start.items():
            tensor.copy_(tensors[name])


@dataclass(frozen=True)
class Rounds:
    """An epoch is all rounds: `inner_steps` steps on batches of one source, which is drawn for each round.

    `sources` are the example numbers of each source.
    """

    sources: tuple[NDArray[np.int64], ...]
    rounds: int
    inner_steps: int
    batch_size: int
    accumulation: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of all rounds."""
        return self.rounds * self.inner_steps

    def epoch(self, epoch: int) -> list[list[NDArray[np.int64]]]:
        """The steps, each a list of batches of example numbers."""
        generator = np.random.default_rng((self.seed, epoch))
        steps: list[list[NDArray[np.int64]]] = []
        for _ in range(self.rounds):
            source = self.sources[int(generator.integers(len(self.sources)))]
            for _ in range(self.inner_steps):
                size = min(self.batch_size * self.accumulation, len(source))
                step = generator.choice(source, size, replace=False)
                steps.append([step[at : at + self.batch_size] for at in range(0, size, self.batch_size)])
        return steps
