"""What a Transformers directory is, and whether it can be fine-tuned. Nothing is executed or unpickled."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from app.model_files import weights
from app.model_files.tailor_made import has_field
from app.model_files.tokenizers import missing_tokenizer
from app.model_files.weights import UnusableWeightsError

PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack")
CONFIGURATIONS = ("config.json", "tokenizer_config.json")  # that may name code to be loaded with the model
MODEL_TYPE = re.compile(r"[\w.-]{1,64}", re.ASCII)
HALVES = ("encoder", "decoder")  # configurations that an encoder-decoder of two models consists of
MAX_WINDOW = 1_000_000_000  # tokenizers write 10^30 for "no limit"


@dataclass(frozen=True)
class BaseModel:
    """A directory that may be fine-tuned, or the reason why it may not."""

    id: str
    directory: Path
    family: str | None
    max_length: int | None
    bytes: int
    problem: str | None


def inspect(model_id: str, directory: Path) -> BaseModel:
    """Read a directory's configuration and its weights' headers."""
    size = sum(path.stat().st_size for path in directory.iterdir() if path.is_file())
    config: dict[str, Any] = {}
    try:
        config = _read(directory / "config.json")
        problem = _problem(directory, config)
    except FileNotFoundError:
        problem = _no_config(directory)
    except (_UnreadableError, UnusableWeightsError) as error:
        problem = str(error)
    except OSError as error:
        problem = f"it cannot be read: {error}"
    return BaseModel(model_id, directory, _family(config), window_of(config), size, problem)


def window_of(config: dict[str, Any]) -> int | None:
    """The window in tokens that a model's configuration names."""
    halves = [half for name in HALVES if isinstance(half := config.get(name), dict)]
    if halves:
        windows = [window for half in halves if (window := window_of(half)) is not None]
        return min(windows, default=None)
    named = next((config[key] for key in ("max_position_embeddings", "n_positions") if key in config), None)
    return named if type(named) is int and 0 < named < MAX_WINDOW else None


class _UnreadableError(Exception):
    """A configuration is no JSON object."""


def _read(path: Path) -> dict[str, Any]:
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _UnreadableError(f"its {path.name} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise _UnreadableError(f"its {path.name} cannot be read: it is no JSON object")
    return cast(dict[str, Any], found)


def _family(config: dict[str, Any]) -> str | None:
    named = config.get("model_type")
    return named if isinstance(named, str) and MODEL_TYPE.fullmatch(named) else None


def _no_config(directory: Path) -> str:
    if (directory / "adapter_config.json").exists():
        return (
            "it is an adapter (PEFT) and no model; load it, call merge_and_unload() and save_pretrained on the result"
        )
    return "it has no config.json; a base model is a directory that `save_pretrained` wrote"


def _needs_code(config: dict[str, Any]) -> bool:
    """Whether it names code that is not Tailor's own, which Tailor loads from itself."""
    return "auto_map" in config and not has_field(config)


def _problem(directory: Path, config: dict[str, Any]) -> str | None:
    if _family(config) is None:
        return "its config.json names no model_type"
    for name in CONFIGURATIONS:
        if (directory / name).is_file() and _needs_code(_read(directory / name)):
            return f"it needs code of its own (`auto_map` in {name}), which Tailor never runs"
    if (problem := missing_tokenizer(directory, _family(config))) is not None:
        return problem
    pickled = [name for name in PICKLES if (directory / name).exists()]
    if pickled and not list(directory.glob("*.safetensors")):
        found = f"found {', '.join(pickled)}, which is not loaded because pickles run code"
        return f"it has no safetensors weights ({found}); save it with save_pretrained"
    weights.used_files(directory)
    return None
