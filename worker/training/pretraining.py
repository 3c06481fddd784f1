"""The stage of continued pretraining: the base model reads texts of the domain before it learns the task."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import pyarrow as pa

from app.catalog.adaptation.continued_pretraining import NAME, ContinuedPretrainingOptions, objectives_of
from app.catalog.fill_mask import FILL_MASK
from app.catalog.hyperparameters import Hyperparameters
from app.catalog.plan import DataFile
from app.catalog.task_spec import TaskSpec, Variant
from app.datasets.field_types import as_texts
from worker.protocol import Log
from worker.training.adaptation import Adaptation
from worker.training.data import Records
from worker.training.encoder import check_max_length
from worker.training.failures import UserError
from worker.training.interfaces import task_class
from worker.training.language_tasks import LanguageTask
from worker.training.stage import Stage

HELD_OUT = 20  # one text of so many, at most MOST_HELD_OUT, says what the stage was good for
MOST_HELD_OUT = 1000
# 200 of Blitzer's reviews of books labelled, tested on electronics: 0.830 without the stage, 0.675 after it at 1e-4 and
# 0.830 at this. The starter has no head for masked tokens, and a few hundred texts make none worth its gradients.
NEW_HEAD_RATE = 3e-5


def pretraining_stage(main: Stage, original: Records) -> Stage:
    """Masked or causal language modelling on the texts that the job names. Raises UserError where there are none."""
    plan, materials = main.run.plan, main.run.materials
    options = ContinuedPretrainingOptions.model_validate(plan.adaptation[NAME])
    named = [records.column("text") for records in materials.files_of(NAME).values()]
    target = [records.column("text") for records in materials.target] if options.use_target_files else []
    own = [texts_of(original, main.variant)] if options.use_training_texts else []
    texts = list(dict.fromkeys(text for texts in (*named, *target, *own) for text in texts if text.strip()))
    if not texts:
        raise UserError(
            "continued_pretraining_without_texts",
            "adaptation.continued_pretraining has no texts to read: give the job target_files, name files in "
            "adaptation.continued_pretraining.files, or set use_training_texts.",
            f"adaptation.{NAME}",
        )
    spec = _objective(options, main)
    asked = {"type": spec.name} | (
        {"mlm_probability": options.mlm_probability, "whole_word_masking": options.whole_word_masking}
        if spec is FILL_MASK
        else {"format": "text"}
    )
    splits = _split(texts, plan.train, plan.seed)
    task = task_class(spec).from_records(
        spec.options.model_validate(asked), splits, label_smoothing=0.0, class_weights=None, seed=plan.seed
    )
    variant = spec.variant(asked)
    given = {"n_epochs": options.n_epochs, "max_steps": options.max_steps, "precision": main.asked.precision}
    given |= {
        name: value
        for name, value in (("learning_rate", options.learning_rate), ("batch_size", options.batch_size))
        if value is not None
    }
    window = main.base.window if main.asked.max_length == "auto" else main.max_length
    max_length = options.max_length or min(window, variant.auto_window or window)
    check_max_length(max_length, main.base, f"adaptation.{NAME}.max_length")
    if options.learning_rate is None and not cast(LanguageTask, task).finds_head(main.base):
        given["learning_rate"] = NEW_HEAD_RATE
        message = (
            f"Continued pretraining learns at {NEW_HEAD_RATE:g}, less than usual: the base model has no head for it, "
            "and the gradients of a new one would undo what the model knows. "
            f"adaptation.{NAME}.learning_rate overrides it."
        )
        main.run.emit(Log(message, data={"code": "gentle_pretraining", "learning_rate": NEW_HEAD_RATE}))
    counts = ", ".join(f"{records.table.num_rows:,} {name}" for name, records in splits.items())
    main.run.emit(Log(f"Continued pretraining reads {len(texts):,} texts: {counts}"))
    return Stage(
        name=NAME,
        spec=spec,
        variant=variant,
        base=main.base,
        task=task,
        adaptation=Adaptation.of(task, {}),
        records=splits,
        asked=Hyperparameters.model_validate(given),
        max_length=max_length,
        run=main.run,
    )


def _objective(options: ContinuedPretrainingOptions, main: Stage) -> TaskSpec:
    """The language model that is trained. Raises UserError for a base model that cannot be one."""
    model_type = main.base.config.model_type
    possible = objectives_of(model_type)
    name = next(iter(possible), None) if options.objective == "auto" else options.objective
    if name is None or name not in possible:
        allowed = ", ".join(possible) or "none"
        raise UserError(
            "continued_pretraining_does_not_fit_model",
            f"adaptation.continued_pretraining.objective is {options.objective!r}, and the base model is of type "
            f"{model_type!r}, for which the objectives are: {allowed}.",
            f"adaptation.{NAME}.objective",
            {"allowed": list(possible)},
        )
    return possible[name]


def texts_of(records: Records, variant: Variant) -> list[str]:
    """Every text that a model of this task reads, record by record; words are joined by spaces."""
    columns = [as_texts(field, records.column(field.name)) for field in variant.texts]
    return [text for row in zip(*columns, strict=True) for text in row if text]


def _split(texts: Sequence[str], file: DataFile, seed: int) -> dict[str, Records]:
    """Texts to read, and some that are held out where there are enough."""
    held_out = min(MOST_HELD_OUT, len(texts) // HELD_OUT)
    order = np.random.default_rng(seed).permutation(len(texts))
    parts = {"train": np.sort(order[held_out:]), "validation": np.sort(order[:held_out])}
    return {
        name: Records(name, file, pa.table({"text": [texts[place] for place in places], "row": places + 1}))
        for name, places in parts.items()
        if len(places)
    }
