"""What methods may need besides the job's own files: unlabelled texts, further data sets and models."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from app.catalog.plan import TrainingPlan
from app.catalog.preprocessing import Preprocessing
from app.catalog.tasks import TASKS
from worker.protocol import Event
from worker.training.data import Records, read_records
from worker.training.encoder import BaseModelFiles
from worker.training.preprocessing import apply


@dataclass(frozen=True)
class Materials:
    """A run's further files and models.

    `target` are unlabelled texts of the domain (field `text`), cleaned by the job's `preprocessing`; `files`, which are
    not, and `models` go by `method.option`. `kept` is the folder of what methods left in the checkpoint that the run
    goes on from.
    """

    base: BaseModelFiles
    max_length: int
    seed: int
    target: tuple[Records, ...]
    files: Mapping[str, Records]
    models: Mapping[str, Path]
    preprocessing: Preprocessing
    kept: Path | None
    stop: threading.Event
    emit: Callable[[Event], None]

    def files_of(self, method: str) -> dict[str, Records]:
        """Files that a method names, by the rest of their keys."""
        prefix = f"{method}."
        return {key.removeprefix(prefix): file for key, file in self.files.items() if key.startswith(prefix)}

    def models_of(self, method: str) -> dict[str, Path]:
        """Directories of models that a method names, by the rest of their keys."""
        prefix = f"{method}."
        return {key.removeprefix(prefix): path for key, path in self.models.items() if key.startswith(prefix)}


def read_materials(
    plan: TrainingPlan,
    run_dir: Path,
    base: BaseModelFiles,
    max_length: int,
    kept: Path | None,
    stop: threading.Event,
    emit: Callable[[Event], None],
) -> Materials:
    """Those of a plan, from its run directory."""
    texts = TASKS["fill-mask"]
    return Materials(
        base=base,
        max_length=max_length,
        seed=plan.seed,
        target=tuple(
            apply(plan.preprocessing, read_records("target", file, run_dir), texts, texts.variants[0])
            for file in plan.target
        ),
        files={key: read_records(key, file, run_dir) for key, file in plan.method_files.items()},
        models={key: run_dir / path for key, path in plan.method_models.items()},
        preprocessing=plan.preprocessing,
        kept=kept,
        stop=stop,
        emit=emit,
    )
