"""A job's methods as one: each sees the model and the loss as the methods before it leave them."""

from collections import defaultdict
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from app.catalog.methods import conflict, in_order
from worker.protocol import Log
from worker.training.data import Batch, Records
from worker.training.encoder import BaseModelFiles, read_weights
from worker.training.failures import UserError
from worker.training.features import Site
from worker.training.interfaces import Objective, Task
from worker.training.materials import Materials
from worker.training.method import Inner, Method, Moment, method_class
from worker.training.optimizer import ParameterGroup, Rates

SEPARATOR = ":"  # between a method's name and what it calls its tensor
MODULES = "modules/"  # how the names of tensors of modules beside the model start


@dataclass(frozen=True)
class Adaptation:
    """The methods of a job by name, in the order in which they compose, on the job's task."""

    task: Task
    methods: Mapping[str, Method]

    @classmethod
    def of(cls, task: Task, asked: Mapping[str, Mapping[str, Any]]) -> "Adaptation":
        """The methods that a job asks for, each with its options. Raises UserError where two do not go together."""
        if (found := conflict(asked)) is not None:
            one, other, reason = found
            raise UserError(
                "methods_do_not_compose",
                f"adaptation names {one} and {other}, but {reason}. Leave one of them out.",
                "adaptation",
            )
        return cls(
            task,
            {
                spec.name: method_class(spec).from_options(spec.options.model_validate(asked.get(spec.name, {})))
                for spec in in_order(asked)
            },
        )

    def augment(self, train: Records, materials: Materials) -> Records:
        """The training records as the run shall see them."""
        for method in self.methods.values():
            train = method.augment(train, materials)
        return train

    def opening(self, base: BaseModelFiles) -> BaseModelFiles:
        """The base model with how its weights are to be read."""
        for method in self.methods.values():
            base = method.opening(base)
        return base

    def adapt(self, model: PreTrainedModel) -> PreTrainedModel:
        """The pretrained model, ready to train. Raises UserError where nothing in it would."""
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.is_floating_point())  # weights of 4 or 8 bits are integers
        for method in self.methods.values():
            model = method.adapt(model, self.task)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise UserError(
                "nothing_trains",
                "adaptation.freeze leaves no parameter that trains: this task puts no head of its own on the model. "
                "Freeze less.",
                "adaptation.freeze",
            )
        return model

    def prepare(self, site: Site) -> None:
        """Before the first step, also of a resumed run."""
        for method in self.methods.values():
            method.prepare(site, [other for other in self.methods.values() if other is not method])

    def parameter_groups(self, model: torch.nn.Module, rates: Rates) -> list[ParameterGroup]:
        """What trains: matrices decay, biases and norm weights (one dimension) do not; each at its own rate."""
        groups: defaultdict[tuple[float, float], list[torch.nn.Parameter]] = defaultdict(list)
        different = rates.head != rates.body
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                rate = rates.head if different and self.task.is_head(name) else rates.body
                for method in self.methods.values():
                    rate *= method.rate_factor(name)
                groups[rate, rates.weight_decay if parameter.ndim >= 2 else 0.0].append(parameter)
        for module in self.modules().values():
            for parameter in module.parameters():
                groups[rates.head, rates.weight_decay if parameter.ndim >= 2 else 0.0].append(parameter)
        # The body's rate first: rows of metrics show the first group's.
        order = sorted(groups, key=lambda key: (key[0] != rates.body, -key[0], -key[1]))
        return [ParameterGroup(tuple(groups[key]), *key) for key in order]

    def modules(self) -> dict[str, torch.nn.Module]:
        """What trains beside the model."""
        return {
            f"{name}{SEPARATOR}{key}": module
            for name, method in self.methods.items()
            for key, module in method.modules().items()
        }

    def parameters(self, model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
        """All parameters by name, those beside the model included."""
        beside = {
            f"{MODULES}{name}.{key}": parameter
            for name, module in self.modules().items()
            for key, parameter in module.named_parameters()
        }
        return dict(model.named_parameters()) | beside

    def objective(self, model: torch.nn.Module, batch: Batch) -> Objective:
        """The task's loss with whatever the methods make of it."""
        inner: Inner = self.task.objective
        for method in self.methods.values():
            inner = partial(method.objective, inner)
        return inner(model, batch)

    def start_step(self, model: torch.nn.Module, moment: Moment) -> None:
        """Before a step."""
        for method in self.methods.values():
            method.start_step(model, moment)

    def finish_step(self, model: torch.nn.Module, step: int) -> None:
        """After a step."""
        for method in self.methods.values():
            method.finish_step(model, step)

    @contextmanager
    def evaluated(self, model: torch.nn.Module) -> Generator[None]:
        """While this is open, the model has the weights that are evaluated and saved."""
        with ExitStack() as stack:
            for method in self.methods.values():
                stack.enter_context(method.evaluated(model))
            yield

    def settle(self, model: torch.nn.Module) -> None:
        """Training is over: leave the evaluated weights in the model for good."""
        for method in self.methods.values():
            method.settle(model)

    def tensors(self, model: torch.nn.Module) -> dict[str, torch.Tensor]:
        """What a checkpoint holds for the methods beside the evaluated weights."""
        states = {
            f"{MODULES}{name}.{key}": tensor.detach().cpu()
            for name, module in self.modules().items()
            for key, tensor in module.state_dict().items()
        }
        return states | {
            f"{name}{SEPARATOR}{key}": tensor
            for name, method in self.methods.items()
            for key, tensor in method.tensors(model).items()
        }

    def keep(self, directory: Path) -> None:
        """Leave in a checkpoint what a resumed run had better not compute again."""
        for method in self.methods.values():
            method.keep(directory)

    def add_files(self, model: PreTrainedModel, directory: Path) -> None:
        """Put beside a saved model what else came of the methods."""
        for method in self.methods.values():
            method.add_files(model, directory)

    def usage(self, usage: str) -> str:
        """The lines of the model card that load the model."""
        for method in self.methods.values():
            usage = method.usage(usage)
        return usage

    def save(self, model: PreTrainedModel, directory: Path) -> None:
        """Leave in `directory` what plain Transformers loads and what `load` needs to go on training."""
        with self.evaluated(model):
            if not any(method.save(model, directory) for method in self.methods.values()):
                model.save_pretrained(directory)

    def load(self, model: PreTrainedModel, directory: Path) -> None:
        """Put the evaluated weights that `save` left into `model`, exactly and in place."""
        if not any(method.load(model, directory) for method in self.methods.values()):
            read_weights(model, directory)

    def load_modules(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Put what `tensors` holds of the modules beside the model back into them, in place."""
        for name, module in self.modules().items():
            prefix = f"{MODULES}{name}."
            module.load_state_dict(
                {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            )

    def restore(self, model: PreTrainedModel, directory: Path, tensors: Mapping[str, torch.Tensor]) -> None:
        """Put model and methods back where `save` and `tensors` were called."""
        self.load(model, directory)
        self.load_modules(tensors)
        for name, method in self.methods.items():
            prefix = f"{name}{SEPARATOR}"
            method.restore(
                model, {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            )

    def log(self, model: torch.nn.Module) -> Log | None:
        """How much of the model trains, where that is not all of it."""
        total = sum(parameter.numel() for parameter in model.parameters())
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        if trained == total:
            return None
        return Log(
            f"{trained:,} of {total:,} parameters train ({trained / total:.2%})",
            data={"trained_parameters": trained, "parameters": total},
        )
