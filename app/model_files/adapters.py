"""Adapters (PEFT): directories with a few matrices, and whatever trains in full, that are a model with their base."""

from pathlib import Path

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
BASE = "adapter_base"  # where a run directory has the model that an adapter in it belongs on: a folder of the adapter's


def is_adapter(directory: Path) -> bool:
    """Whether the directory is an adapter, and no model by itself."""
    return (directory / CONFIG).is_file()
