"""LoRA (Hu et al. 2022) by PEFT: the body stays as it is, two small matrices beside each of its linear layers train."""

import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, cast

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraModel
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from pydantic import BaseModel
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from app.catalog.adaptation.lora import LoraOptions
from worker.training.failures import UserError
from worker.training.interfaces import Task
from worker.training.layers import layer_of
from worker.training.method import Method

ADAPTER = "adapter"  # what PEFT calls it, and the folder of the artifact
NAME = "default"
PEFT_PREFIX = "base_model.model."  # how PeftModel names what it wraps


@dataclass
class Lora(Method):
    """The artifact is the merged model, which is a base model like any other, with the adapter by itself beside it."""

    options: LoraOptions
    tuner: Any = None  # LoraModel
    head: list[str] = field(default_factory=list[str])  # modules that train in full

    @classmethod
    def from_options(cls, options: BaseModel) -> Self:
        """With a job's options."""
        return cls(cast(LoraOptions, options))

    def adapt(self, model: PreTrainedModel, task: Task) -> PreTrainedModel:
        """Put the matrices in and freeze the rest but the head. Raises UserError for unknown target modules."""
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

    def save(self, model: PreTrainedModel, directory: Path) -> bool:
        """The merged model, and the adapter as PEFT's `PeftModel.from_pretrained` loads it."""
        copy.deepcopy(self.tuner).merge_and_unload().save_pretrained(directory)
        adapter = directory / ADAPTER
        adapter.mkdir(exist_ok=True)
        tensors = {
            f"{PEFT_PREFIX}{name.replace(f'.{NAME}.', '.').removesuffix(f'.{NAME}')}": parameter.detach().cpu()
            for name, parameter in _trained(model).items()
        }
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, adapter / SAFETENSORS_WEIGHTS_NAME)
        # Only said here: PEFT would keep a second head beside the first while training.
        replace(self.tuner.peft_config[NAME], modules_to_save=self.head or None).save_pretrained(adapter)
        return True

    def load(self, model: PreTrainedModel, directory: Path) -> bool:
        """The matrices and the head; the body never changed. Raises RuntimeError naming what is missing."""
        saved = load_file(directory / ADAPTER / SAFETENSORS_WEIGHTS_NAME)
        with torch.no_grad():
            for name, parameter in _trained(model).items():
                key = f"{PEFT_PREFIX}{name.replace(f'.{NAME}.', '.').removesuffix(f'.{NAME}')}"
                if key not in saved:
                    raise RuntimeError(f"{directory / ADAPTER} has no {key}")
                parameter.copy_(saved[key])
        return True


def _trained(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
