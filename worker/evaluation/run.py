"""One evaluation, from plan to result: the recipe, top to bottom. The task scores as it does in training."""

import json
import math
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from app.catalog.plan import EvaluationPlan
from app.catalog.tasks import TASKS
from worker.evaluation.report import page
from worker.evaluation.slices import Slicing, cut, score_slices
from worker.protocol import Event, Log, Phase, Result
from worker.training.data import Records, read_records
from worker.training.device import bound_memory, fast_precision, keep_freed_memory, seed_generators
from worker.training.encoder import check_max_length, open_base
from worker.training.evaluation import predict
from worker.training.failures import UserError
from worker.training.interfaces import task_class
from worker.training.outcomes import Outcomes
from worker.training.preprocessing import apply, of_artifact

PREDICTIONS, STATISTICS, REPORT = "predictions.jsonl", "statistics.npy", "report.html"


def run(plan: EvaluationPlan, run_dir: Path, emit: Callable[[Event], None], stop: threading.Event) -> None:
    """Predict, score, slice, write. Raises UserError for what the user can mend, StoppedError after `stop`."""
    keep_freed_memory()
    if plan.memory_bytes is not None:
        bound_memory(plan.memory_bytes)
    spec = TASKS[plan.task["type"]]
    variant = spec.variant(plan.task)
    directory = run_dir / plan.directory
    cleaning = plan.preprocessing or of_artifact(directory)
    records = apply(cleaning, read_records("test", plan.data, run_dir), spec, variant)
    if cleaning.cleaning:
        emit(Log(f"Texts are cleaned as in training ({', '.join(cleaning.cleaning)})"))
    words = any(field.type == "words" for field in variant.fields)
    base = open_base(plan.model, directory, spec.model_types, words=words)
    options = spec.options.model_validate(plan.task)
    task = task_class(spec).from_artifact(options, base, records, seed=plan.seed)
    seed_generators(plan.seed)
    model = task.load_model(base, emit)

    window = min(base.window, variant.auto_window or base.window)
    max_length = window if plan.max_length is None else plan.max_length
    check_max_length(max_length, base)
    examples = task.encode(records, base.tokenizer, max_length)
    if (log := task.windows_log(records, examples, max_length)) is not None:
        emit(log)
    precision = plan.precision or fast_precision()
    if precision == "fp16" and not torch.cuda.is_available():
        emit(Log("The model was trained in fp16, which needs a GPU; it is evaluated in fp32.", "warn"))
        precision = "fp32"
    accelerator = Accelerator(mixed_precision={"fp32": "no"}.get(precision, precision))
    model.to(accelerator.device)
    rows = records.table.num_rows
    emit(Log(f"Evaluating on {rows:,} rows, on {accelerator.device.type} in {precision}"))
    predictions = predict(task, accelerator.prepare(model), accelerator.device, records, examples, stop, emit)
    emit(Phase("scoring", examples.count, examples.count))

    scores = task.score(records, examples, predictions)
    _check_finite(plan, scores.values)
    outcomes = task.outcomes(records, examples, predictions)
    baseline = task.baseline(records)
    slicing = None if plan.slice_by is None else cut(records, plan.slice_by, variant.fields, base.tokenizer)
    metrics: dict[str, Any] = {
        "metrics": scores.values | scores.detail | outcomes.calibration_detail | {"rows": rows},
        "baseline": None if baseline is None else asdict(baseline),
        "slices": None if slicing is None else score_slices(task, records, examples, predictions, slicing),
        "slices_left_out": None if slicing is None else slicing.left_out,
        "statistics": outcomes.meaning.model_dump(mode="json"),
    }
    _write_predictions(run_dir / PREDICTIONS, records, outcomes, slicing)
    np.save(run_dir / STATISTICS, outcomes.matrix, allow_pickle=False)
    (run_dir / REPORT).write_text(page(plan.model, plan.data.filename, spec.name, metrics), "utf-8")
    outputs = {"predictions": PREDICTIONS, "statistics": STATISTICS, "report": REPORT}
    emit(Result(metrics=metrics, outputs=outputs))


def _check_finite(plan: EvaluationPlan, values: dict[str, float]) -> None:
    if broken := [name for name, value in values.items() if not math.isfinite(value)]:
        raise UserError(
            "metric_not_finite",
            f"Model {plan.model!r} gives no finite number for {', '.join(broken)}: its weights have diverged. Evaluate "
            "another checkpoint, or train again with a lower learning_rate.",
            "model",
        )


def _write_predictions(path: Path, records: Records, outcomes: Outcomes, slicing: Slicing | None) -> None:
    """A line for every record: its row in the file, what was right, what was predicted."""
    with path.open("w", encoding="utf-8") as stream:
        for index, (row, outcome) in enumerate(zip(records.column("row"), outcomes.rows, strict=True)):
            line = {"row": row} | outcome | ({} if slicing is None else {"slice": slicing.names[index]})
            stream.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
