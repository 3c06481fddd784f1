"""What Tailor leaves in a model's directory, recognised where such a directory comes back, perhaps to another Tailor.

Its Python files are known by the settings that ask for them and are never taken over: this installation writes its own
copies. So files of other versions are welcome, and what is foreign cannot hide behind a name.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError

from app.catalog.preprocessing import Preprocessing
from app.catalog.tasks import TASKS

MODELING = "modeling_crf.py"
WINDOW = "crf_window"  # what the configuration of a model with a conditional random field calls its window
AUTO_MAP = {"AutoModelForTokenClassification": "modeling_crf.CrfForTokenClassification"}
PIPELINES = {"token-classification": {"impl": "modeling_crf.CrfPipeline", "pt": ["AutoModelForTokenClassification"]}}

CLEANER = "preprocessing.py"
SETTINGS = "preprocessing.json"
FORMAT = "tailor-preprocessing-1"

MANIFEST = "manifest.json"
PYTHON_FILES = (MODELING, CLEANER)


class UnreadableSettingsError(Exception):
    """Settings in Tailor's own format say what no version writes; the message is a clause about the model."""


def has_field(config: Mapping[str, Any]) -> bool:
    """Whether all code that a configuration asks for is that of a conditional random field of ours."""
    pipelines = config.get("custom_pipelines", PIPELINES)
    return config.get("auto_map") == AUTO_MAP and pipelines == PIPELINES and type(config.get(WINDOW)) is int


def python_files(directory: Path) -> list[str]:
    """The Python files of ours that a model needs beside its weights. Raises UnreadableSettingsError."""
    needed = {MODELING: has_field(_read(directory / "config.json")), CLEANER: bool(preprocessing(directory).cleaning)}
    return [name for name in PYTHON_FILES if needed[name]]


def preprocessing(directory: Path) -> Preprocessing:
    """How the model in `directory` reads texts; `stop_words` is the list itself, whatever it was asked for by.

    Raises UnreadableSettingsError for a file that is ours and damaged.
    """
    described = _read(directory / SETTINGS)
    if described.get("format") != FORMAT:  # another program's
        return Preprocessing()
    try:
        return Preprocessing.model_validate(described.get("cleaning"))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(["cleaning", *map(str, first["loc"])])
        raise UnreadableSettingsError(f"its {SETTINGS} cannot be read: {place}: {first['msg']}") from None


class _Hyperparameters(BaseModel):
    max_length: Annotated[StrictInt, Field(ge=8, le=131_072)]
    precision: Literal["fp32", "bf16", "fp16"]


class _Manifest(BaseModel):
    task: dict[str, Any]
    seed: Annotated[StrictInt, Field(ge=0, le=2**31 - 1)]
    hyperparameters: _Hyperparameters
    labels: list[str] | None


class Training(BaseModel):
    """How a model was trained, which is how it has to be asked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: dict[str, Any] = Field(description="The task's options, `type` included.")
    labels: list[str] | None = Field(description="In the order of their ids.")
    seed: int
    max_length: int = Field(description="Window in tokens.")
    precision: Literal["fp32", "bf16", "fp16"]


def training(directory: Path) -> Training | None:
    """What the manifest of a model of ours says. None for other models, and where it contradicts the configuration."""
    try:
        found = _Manifest.model_validate(_read(directory / MANIFEST))
        spec = TASKS[found.task["type"]]
        task = spec.options.model_validate(found.task).model_dump(mode="json")
    except (ValidationError, KeyError, TypeError):
        return None
    if found.labels is not None and found.labels != _labels(_read(directory / "config.json")):
        return None
    asked = found.hyperparameters
    return Training(
        task=task, labels=found.labels, seed=found.seed, max_length=asked.max_length, precision=asked.precision
    )


def _labels(config: Mapping[str, Any]) -> list[Any] | None:
    named = config.get("id2label")
    if not isinstance(named, dict):
        return None
    names = cast(dict[str, Any], named)
    return [names.get(str(index)) for index in range(len(names))]


def _read(path: Path) -> dict[str, Any]:
    """The object in a JSON file; an empty one where there is none."""
    try:
        found: Any = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return cast(dict[str, Any], found) if isinstance(found, dict) else {}
