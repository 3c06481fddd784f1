"""LoRA's matrices, and what trains in full beside them, as the directory that PEFT reads; and such a directory merged.

A model in a run directory may be such an adapter. The model that it belongs on lies in a folder of it then, and may be
an adapter too.
"""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from peft import LoraConfig
from peft.tuners.lora import LoraModel
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from app.model_files.adapters import BASE, CONFIG, WEIGHTS, is_adapter

NAME = "default"  # what PEFT calls the one adapter of a model
MERGED = "merged"
PEFT_PREFIX = "base_model.model."  # how PeftModel names what it wraps
OWN_FILES = ("adapter_*", BASE, MERGED, ".*")  # what is not of the merged model


def tensor_name(parameter: str) -> str:
    """What PEFT's file calls a parameter of the model that LoRA was put into."""
    return f"{PEFT_PREFIX}{parameter.replace(f'.{NAME}.', '.').removesuffix(f'.{NAME}')}"


def write_adapter(model: torch.nn.Module, config: LoraConfig, head: Sequence[str], directory: Path) -> None:
    """The parameters that train, and how `PeftModel.from_pretrained` puts them in; `head` are modules without LoRA."""
    directory.mkdir(exist_ok=True)
    # As a state, and not as they are: a head may be trained in other units than it is saved in.
    state = model.state_dict()
    tensors = {tensor_name(name): state[name].detach().cpu().contiguous() for name in _trained(model)}
    save_file(tensors, directory / WEIGHTS)
    # Only said here: PEFT would keep a second head beside the first while training.
    replace(config, modules_to_save=list(head) or None).save_pretrained(str(directory))


def read_adapter(model: torch.nn.Module, directory: Path) -> None:
    """Put back what `write_adapter` left, in place. Raises RuntimeError naming what is missing."""
    saved = load_file(directory / WEIGHTS)
    names = {name: tensor_name(name) for name in _trained(model)}
    if missing := [name for name in names.values() if name not in saved]:
        raise RuntimeError(f"{directory} has no {', '.join(missing[:5])}")
    model.load_state_dict({name: saved[in_file] for name, in_file in names.items()}, strict=False)


def _trained(model: torch.nn.Module) -> list[str]:
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def write_config(model: PreTrainedModel, directory: Path) -> None:
    """The configuration of the model that the merged adapter is: its class, labels and how it generates."""
    said = model.config.to_dict() | {"architectures": [type(model).__name__]}
    said.pop("quantization_config", None)  # of the base while it trained
    type(model.config).from_dict(said).save_pretrained(directory)
    if model.can_generate():
        model.generation_config.save_pretrained(directory)


def whole_model(directory: Path) -> Path:
    """The directory of a model with all its weights: this one or, for an adapter, one in it where it is merged.

    Raises RuntimeError for an adapter that does not fit what it lies on.
    """
    if not is_adapter(directory):
        return directory
    merged = directory / MERGED
    if not merged.exists():
        draft = directory / f".draft-{MERGED}"
        shutil.rmtree(draft, ignore_errors=True)
        _merge(directory, whole_model(directory / BASE)).save_pretrained(draft)
        shutil.copytree(directory, draft, ignore=shutil.ignore_patterns(*OWN_FILES), dirs_exist_ok=True)
        draft.rename(merged)
    return merged


def _merge(directory: Path, base: Path) -> PreTrainedModel:
    config = cast(PreTrainedConfig, AutoConfig.from_pretrained(directory, trust_remote_code=False))
    kind: Any = getattr(transformers, (config.architectures or ["none"])[0], None)
    if not (isinstance(kind, type) and issubclass(kind, PreTrainedModel)):
        raise RuntimeError(f"{directory.name}/{CONFIG} belongs to no known class: {config.architectures}")
    model: Any = cast(Any, kind).from_pretrained(
        base,
        config=config,
        dtype="float32",
        use_safetensors=True,
        trust_remote_code=False,
        ignore_mismatched_sizes=True,
    )
    said = cast(LoraConfig, LoraConfig.from_pretrained(str(directory)))
    tuner: Any = LoraModel(model, replace(said, modules_to_save=None), NAME)
    saved = load_file(directory / WEIGHTS)
    parameters = {tensor_name(name): parameter for name, parameter in model.named_parameters()}
    if unknown := sorted(set(saved) - set(parameters)):
        raise RuntimeError(f"the adapter has {unknown[0]}, which {kind.__name__} has not")
    with torch.no_grad():
        for name, tensor in saved.items():
            parameters[name].copy_(tensor)
    return tuner.merge_and_unload()
