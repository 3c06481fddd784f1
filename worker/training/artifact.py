"""What a job leaves behind: a Transformers directory that needs no code of ours, with metrics and provenance."""

import csv
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from app.catalog.methods import DEFAULT_METHOD
from app.catalog.plan import DataFile
from app.model_files.adapters import is_adapter
from worker.training.checkpoint import publish
from worker.training.preprocessing import Preprocessed

LIBRARIES = (
    "tailor",
    "torch",
    "transformers",
    "accelerate",
    "peft",
    "tokenizers",
    "safetensors",
    "scikit-learn",
    "numpy",
)
READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Provenance:
    """Where a model comes from."""

    job_id: str
    model: str
    base_model: str
    task: dict[str, Any]
    adaptation: dict[str, dict[str, Any]]
    seed: int
    hyperparameters: dict[str, Any]
    files: dict[str, DataFile]
    labels: list[str] | None
    headline: tuple[str, ...]
    usage: str
    preprocessing: Preprocessed
    domain: str = ""  # a section of the model card


def write_artifact(
    run_dir: Path, provenance: Provenance, metrics: dict[str, Any], write_model: Callable[[Path], None]
) -> tuple[str, dict[str, int]]:
    """Write `artifact/`; returns its name and its listing. It appears complete or not at all."""
    draft, target = run_dir / ".draft-artifact", run_dir / "artifact"
    if draft.exists():
        shutil.rmtree(draft)
    draft.mkdir()
    write_model(draft)
    provenance.preprocessing.write_parts(draft)
    (draft / "README.md").write_text(model_card(provenance, metrics, adapter=is_adapter(draft)), "utf-8")
    (draft / "metrics.json").write_text(_json(metrics), "utf-8")
    manifest = {
        "job": provenance.job_id,
        "model": provenance.model,
        "base_model": provenance.base_model,
        "task": provenance.task,
        "adaptation": provenance.adaptation,
        "seed": provenance.seed,
        "hyperparameters": provenance.hyperparameters,
        "preprocessing": provenance.preprocessing.preprocessing.model_dump(mode="json"),
        "labels": provenance.labels,
        "data": {
            split: {"file": file.file_id, "filename": file.filename, "sha256": file.sha256, "rows": file.rows}
            for split, file in provenance.files.items()
        },
        "versions": {name: version(name) for name in LIBRARIES},
        "files": {
            path.relative_to(draft).as_posix(): {"bytes": path.stat().st_size, "sha256": _sha256(path)}
            for path in sorted(draft.rglob("*"))
            if path.is_file()
        },
    }
    (draft / "manifest.json").write_text(_json(manifest), "utf-8")
    return target.name, publish(draft, target)


def write_step_metrics(path: Path, history: Sequence[dict[str, float]]) -> None:
    """The run's numbers as CSV, one row a step with `train_*` and `valid_*` columns; a step's rows are merged."""
    rows: dict[float, dict[str, float]] = {}
    for row in history:
        rows.setdefault(row["step"], {}).update(row)
    found = {name for row in rows.values() for name in row}
    leading = ["step", "epoch", "learning_rate", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy"]
    columns = [name for name in leading if name in found] + sorted(found - set(leading))
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows({**row, "step": int(step)} for step, row in sorted(rows.items()))


def model_card(provenance: Provenance, metrics: dict[str, Any], *, adapter: bool) -> str:
    """README.md of the model: front matter that hubs read, use, results with intervals, data, hyperparameters.

    `adapter`: it has no weights but those that PEFT puts onto the base model.
    """
    task = provenance.task["type"]
    results = [
        EvalResult(
            task_type=task,
            dataset_type="file",
            dataset_name=provenance.files[split].filename,
            dataset_split=split,
            metric_type=name,
            metric_value=round(metrics[split][name], 4),
        )
        for split in ("validation", "test")
        if split in metrics
        for name in provenance.headline
        if name in metrics[split]
    ]
    front = ModelCardData(
        library_name="peft" if adapter else "transformers",
        base_model=provenance.base_model if adapter else None,
        pipeline_tag=task,
        tags=["tailor", "fine-tuned"],
        metrics=list(provenance.headline),
        model_name=provenance.model,
        eval_results=results or None,
    )
    files = "\n".join(
        f"| {split} | {_cell(file.filename)} | `{file.file_id}` | {file.rows} | `{file.sha256[:16]}…` |"
        for split, file in provenance.files.items()
    )
    hyperparameters = "\n".join(f"| {name} | {_cell(value)} |" for name, value in provenance.hyperparameters.items())
    names = ", ".join(f"`{_cell(label)}`" for label in provenance.labels or [])
    labels = f"Labels: {names}.\n\n" if names else ""
    return f"""---
{front.to_yaml()}
---

# {provenance.model}

`{provenance.base_model}` fine-tuned for {task} by Tailor (job `{provenance.job_id}`, {_how(provenance)},
seed {provenance.seed}).

{labels}## Use

```python
{provenance.usage}
```

{provenance.preprocessing.card()}## Results

{_results_table(metrics)}

Weights: step {metrics["best_step"]}, chosen by {metrics["selected_by"]}. The test file, where there is one, was scored
once, with the chosen weights. Intervals are 95 % bootstrap intervals. All numbers: `metrics.json`.

{provenance.domain}## Data

| split | file | id | rows | SHA-256 |
|---|---|---|---|---|
{files}

## Hyperparameters

| name | value |
|---|---|
{hyperparameters}

Versions of the libraries, and size and SHA-256 of every file: `manifest.json`.
"""


def _how(provenance: Provenance) -> str:
    names = [name for name in provenance.adaptation if name != DEFAULT_METHOD]
    return f"adaptation {' and '.join(f'`{name}`' for name in names)}" if names else "every parameter trained"


def _results_table(metrics: dict[str, Any]) -> str:
    splits = [split for split in ("validation", "test") if split in metrics]
    if not splits:
        return "There was neither a validation nor a test file: nothing is known about this model's quality."
    names = [name for name, value in metrics[splits[0]].items() if isinstance(value, float)]
    lines = [f"| metric | {' | '.join(splits)} |", "|---" * (len(splits) + 1) + "|"]
    for name in names:
        cells: list[str] = []
        for split in splits:
            if name not in metrics[split]:  # it means nothing there
                cells.append("-")
                continue
            low_high = metrics[split].get("intervals", {}).get(name)
            cells.append(
                f"{metrics[split][name]:.4f}" + (f" ({low_high[0]:.4f} to {low_high[1]:.4f})" if low_high else "")
            )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    if "before_training" in metrics:
        before = ", ".join(f"{name} {value:.4f}" for name, value in metrics["before_training"].items())
        lines += ["", f"The base model before training, on the validation file: {before}."]
    return "\n".join(lines)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ").replace("`", "'")


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
