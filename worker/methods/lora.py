"""LoRA (Hu et al. 2022) by PEFT: the body stays as it is, two small matrices beside each of its linear layers train."""

import copy
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraModel
from pydantic import BaseModel
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from app.catalog.adaptation.lora import LoraOptions
from worker.training.adapter_files import NAME, read_adapter, write_adapter, write_config
from worker.training.classifier import FIELD
from worker.training.encoder import BaseModelFiles
from worker.training.failures import UserError
from worker.training.features import Site
from worker.training.interfaces import Task
from worker.training.layers import layer_of
from worker.training.method import Method
from worker.training.quantization import quantized

ADAPTER = "adapter"  # the folder of the artifact
DIRECTORY = "path/to/this/directory"  # what lines of model cards call it


@dataclass
class Lora(Method):
    """The artifact is the merged model, which is a base model like any other, the adapter by itself, or both."""

    options: LoraOptions
    tuner: Any = None  # LoraModel
    head: list[str] = field(default_factory=list[str])  # modules that train in full
    architecture: str = ""
    base: str = ""

    @classmethod
    def from_options(cls, options: BaseModel) -> Self:
        """With a job's options."""
        return cls(cast(LoraOptions, options))

    def opening(self, base: BaseModelFiles) -> BaseModelFiles:
        """In 4 or 8 bits where that is asked for. Raises UserError where this machine cannot do that."""
        return base if self.options.quantization is None else quantized(base, self.options.quantization)

    def adapt(self, model: PreTrainedModel, task: Task) -> PreTrainedModel:
        """Put the matrices in and freeze the rest but the head.

        Raises UserError for unknown target modules, and for models that an adapter alone cannot make.
        """
        if self.options.artifact == "adapter":
            _refuse_what_is_no_adapter(model)
        self.architecture = type(model).__name__
        head = [name for name, _ in model.named_parameters() if task.is_head(name)]
        self.head = sorted({name.partition(".")[0] for name in head})
        targets = self._targets(model, task)
        config = LoraConfig(
            r=self.options.r,
            lora_alpha=cast(int, self.options.alpha),  # PEFT divides by it; it need not be whole
            lora_dropout=self.options.dropout,
            use_dora=self.options.dora,
            use_rslora=self.options.rslora,
            target_modules=targets,
            fan_in_fan_out=all(isinstance(model.get_submodule(name), Conv1D) for name in targets),  # GPT-2's layers
            base_model_name_or_path=model.config.name_or_path,
        )
        self.tuner = LoraModel(model, config, NAME)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(parameter.requires_grad or name in head)
        return model

    def _targets(self, model: PreTrainedModel, task: Task) -> list[str]:
        linear = [
            name
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear | Conv1D) and layer_of(f"{name}.") is not None
            if not task.is_head(f"{name}.weight")
        ]
        if self.options.target_modules == "auto":
            chosen = linear
        else:
            ends = self.options.target_modules
            chosen = [name for name in linear if any(name == end or name.endswith(f".{end}") for end in ends)]
            unknown = [end for end in ends if not any(name == end or name.endswith(f".{end}") for name in linear)]
            if unknown:
                allowed = sorted({name.rpartition(".")[2] for name in linear})
                raise UserError(
                    "lora_no_such_module",
                    f"adaptation.lora.target_modules names {unknown[0]!r}, which no linear layer of the model is "
                    f"called. They are called: {', '.join(allowed)}.",
                    "adaptation.lora.target_modules",
                    {"allowed": allowed},
                )
        if not chosen:
            raise UserError(
                "lora_no_layers", "The model has no linear layers that LoRA could adapt.", "adaptation.lora"
            )
        return chosen

    def prepare(self, site: Site, others: Sequence[Method]) -> None:
        """An adapter says what it belongs on by the id of the model; its directory is this machine's."""
        self.base = site.materials.base.id
        self._config.base_model_name_or_path = self.base

    @property
    def _config(self) -> LoraConfig:
        return self.tuner.peft_config[NAME]

    def save(self, model: PreTrainedModel, directory: Path) -> bool:
        """The merged model with the adapter beside it, which alone can be gone on from; or just the adapter."""
        if self.options.artifact == "adapter":
            write_adapter(model, self._config, self.head, directory)
            write_config(model, directory)
            return True
        copy.deepcopy(self.tuner).merge_and_unload().save_pretrained(directory)
        write_adapter(model, self._config, self.head, directory / ADAPTER)
        return True

    def load(self, model: PreTrainedModel, directory: Path) -> bool:
        """The matrices and the head; the body never changed. Raises RuntimeError naming what is missing."""
        read_adapter(model, directory if self.options.artifact == "adapter" else directory / ADAPTER)
        return True

    def add_files(self, model: PreTrainedModel, directory: Path) -> None:
        """Leave the adapter beside the merged model only where it was asked for."""
        if self.options.artifact == "merged":
            shutil.rmtree(directory / ADAPTER)

    def usage(self, usage: str) -> str:
        """An adapter is merged first."""
        if self.options.artifact != "adapter":
            return usage
        return f"""\
import shutil

from peft import PeftModel
from transformers import AutoConfig, {self.architecture}

# An adapter on {self.base}: merged into it once, it is a model like any other.
adapter, merged = "{DIRECTORY}", "path/to/merged/model"
config = AutoConfig.from_pretrained(adapter)
base = {self.architecture}.from_pretrained("path/to/{self.base}", config=config)
PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(merged)
shutil.copytree(adapter, merged, ignore=shutil.ignore_patterns("adapter_*"), dirs_exist_ok=True)

{usage.replace(DIRECTORY, "path/to/merged/model")}"""


def _refuse_what_is_no_adapter(model: PreTrainedModel) -> None:
    reasons = {
        "a conditional random field comes with a modelling file, which PEFT does not read": hasattr(model, FIELD),
        "a writer that is made of two copies of an encoder has no base model that an adapter could be put on": (
            model.config.model_type == "encoder-decoder"
        ),
    }
    for reason, is_so in reasons.items():
        if is_so:
            raise UserError(
                "lora_adapter_not_for_model",
                f'adaptation.lora.artifact is "adapter", but {reason}. Ask for "merged" or "both".',
                "adaptation.lora.artifact",
                {"allowed": ["merged", "both"]},
            )
