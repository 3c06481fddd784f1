"""The domain report of a finished job, from its inputs to the files. `make` and `save` are what the engine calls."""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from app.catalog.plan import TrainingPlan
from app.catalog.records import DOMAIN
from app.catalog.task_spec import TaskSpec, Variant
from worker.domain_report import separability, tokenizer_use, vocabulary
from worker.domain_report.contents import FORMAT, DomainReport, DomainShift, NotMeasured
from worker.domain_report.corpora import Corpora, domains_of, gather
from worker.domain_report.domains import DomainTable, score_domains
from worker.domain_report.features import NoFeaturesError, mean_features
from worker.domain_report.page import page
from worker.domain_report.separability import FEWEST_TEXTS, Distance, Sides, proxy_a_distance
from worker.domain_report.tokenizer_use import TokenizerUse
from worker.domain_report.verdict import Control, judge
from worker.domain_report.vocabulary import VocabularyShift
from worker.protocol import Event
from worker.training.data import Records
from worker.training.encoder import BaseModelFiles
from worker.training.failures import StoppedError, failure_of
from worker.training.interfaces import Task
from worker.training.stages import CONTROL, controlled
from worker.training.trained import Judged, Trained

JSON_FILE, PAGE_FILE = "domain_report.json", "domain_report.html"


@dataclass(frozen=True)
class ReportInputs:
    """What is known when a job's training is over; `of_run` finds it.

    `task` has what was tuned. `train` and the target texts (field `text`) are cleaned, `train` is not augmented.
    `domain_column` of the files says which domain a record is of. `load_base` loads the body as it was before all
    training, on whatever device; `trained` is where features are computed. `judged` is the test file, else the
    validation file, else None. `methods` and `stages` are JSON by name, what each has to say of itself.
    """

    job: str
    model: str
    task: Task
    spec: TaskSpec
    variant: Variant
    adaptation: Mapping[str, Mapping[str, Any]]
    base: BaseModelFiles
    load_base: Callable[[], PreTrainedModel]
    trained: PreTrainedModel
    max_length: int
    train: Records
    target: Sequence[Records]
    domain_column: str
    judged: Judged | None
    control: Control | None
    methods: Mapping[str, Mapping[str, Any]]
    stages: Mapping[str, Mapping[str, Any]]
    seed: int
    stop: threading.Event
    emit: Callable[[Event], None]


def wanted(plan: TrainingPlan) -> bool:
    """Whether a job is reported on: it has target files, or an entry in `adaptation`."""
    return bool(plan.target) or bool(plan.adaptation)


def of_run(trained: Trained, train: Records, judged: Judged | None) -> ReportInputs:
    """The inputs after a run's last stage; `train` are its training records before methods had their say."""
    stage = trained.stage
    plan, materials = stage.run.plan, stage.run.materials
    ended = trained.state.finished.get(CONTROL)
    control = None
    if ended is not None and "statistics" in ended:
        statistics = np.array(ended["statistics"], dtype=np.float64)
        control = Control(tuple(controlled(stage)), statistics, ended["metrics"])
    return ReportInputs(
        job=plan.job_id,
        model=plan.fine_tuned_model,
        task=trained.task,
        spec=stage.spec,
        variant=stage.variant,
        adaptation=plan.adaptation,
        base=stage.base,
        load_base=lambda: trained.task.load_model(stage.base, lambda log: None),
        trained=trained.model,
        max_length=stage.max_length,
        train=train,
        target=materials.target,
        domain_column=next(filter(None, (options.get("domain_field") for options in plan.adaptation.values())), DOMAIN),
        judged=judged,
        control=control,
        methods={name: method.report() for name, method in stage.adaptation.methods.items()},
        stages={
            name: {"best_step": found["best_step"], "before": found["before"], "after": found["after"]}
            for name, found in trained.state.finished.items()
            if name != CONTROL
        },
        seed=plan.seed,
        stop=materials.stop,
        emit=materials.emit,
    )


def save(report: DomainReport, directory: Path) -> None:
    """Leave JSON_FILE and PAGE_FILE in `directory`."""
    content = json.dumps(asdict(report), indent=2, ensure_ascii=False, allow_nan=False)
    (directory / JSON_FILE).write_text(content + "\n", "utf-8")
    (directory / PAGE_FILE).write_text(page(report), "utf-8")


def card_section(report: DomainReport) -> str:
    """What a model card says of the report."""
    return f"## Domain\n\n{report.verdict.sentence}\n\nMore: `{PAGE_FILE}`, all numbers: `{JSON_FILE}`.\n\n"


def make(inputs: ReportInputs) -> DomainReport:
    """Measure what can be measured. Raises StoppedError once `stop` is set."""
    corpora = gather(inputs.train, inputs.variant.fields, inputs.target, inputs.domain_column)
    judged = inputs.judged
    split, outcomes = (None, None) if judged is None else (judged.records.split, judged.outcomes)
    verdict = judge(inputs.adaptation, inputs.variant, split, outcomes, inputs.control, inputs.seed)
    everything = [corpora.source, *([corpora.target] if corpora.target else []), *corpora.parts]
    uses: list[TokenizerUse] = []
    for corpus in everything:
        _obey(inputs.stop)
        use = tokenizer_use.measure(corpus, inputs.base.tokenizer, inputs.max_length, inputs.seed)
        uses += [] if use is None else [use]
    return DomainReport(
        format=FORMAT,
        job=inputs.job,
        model=inputs.model,
        base_model=inputs.base.id,
        task=inputs.spec.name,
        verdict=verdict,
        control=None if inputs.control is None else _scores(inputs.control.metrics),
        evaluated=None if judged is None else _scores(judged.metrics),
        max_length=inputs.max_length,
        tokenizer=uses,
        vocabulary=_vocabulary(corpora, inputs),
        a_distance=_a_distance(corpora, inputs),
        domains=_domains(inputs),
        stages=inputs.stages,
        methods=inputs.methods,
    )


def _obey(stop: threading.Event) -> None:
    if stop.is_set():
        raise StoppedError


def _scores(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Values and intervals of metrics, without their tables."""
    values = {name: value for name, value in metrics.items() if isinstance(value, float)}
    return {"metrics": values, "intervals": metrics.get("intervals", {})}


NO_TARGET = NotMeasured("The job has no target files, so that there is nothing to compare the training texts with.")


def _vocabulary(corpora: Corpora, inputs: ReportInputs) -> VocabularyShift | NotMeasured:
    _obey(inputs.stop)
    if corpora.target is None:
        return NO_TARGET
    found = vocabulary.shift(corpora, inputs.seed)
    return NotMeasured("The training texts or the target texts hold no words.") if found is None else found


def _a_distance(corpora: Corpora, inputs: ReportInputs) -> DomainShift | NotMeasured:
    """Before and after on the same texts. It needs the base model beside the trained one, and may go without."""
    if corpora.target is None:
        return NO_TARGET
    device = next(inputs.trained.parameters()).device
    most = separability.TEXTS.get(device.type, separability.MOST_TEXTS)
    sides = Sides.of(corpora, most, inputs.seed)
    if sides is None:
        return NotMeasured(f"It takes {FEWEST_TEXTS} different training texts and as many different target texts.")

    def distance(model: PreTrainedModel) -> Distance:
        found = mean_features(model, inputs.base.tokenizer, sides.texts, inputs.max_length, inputs.stop, inputs.emit)
        if not np.isfinite(found).all():
            raise NoFeaturesError("the body's features are no finite numbers")
        return proxy_a_distance(found, sides, inputs.seed)

    try:
        after = distance(inputs.trained)
        with torch.random.fork_rng():  # a fresh head draws its weights
            base = inputs.load_base()
        torch.nn.Module.to(base, device)
        before = distance(base)
    except NoFeaturesError as error:
        return NotMeasured(f"It needs the features of the model's body: {error}.")
    except Exception as error:
        if failure_of(error).kind != "resource_error":
            raise
        return NotMeasured("There was not enough memory for the base model beside the trained one.")
    of_target = int(sides.is_target.sum())
    return DomainShift(before, after, len(sides.is_target) - of_target, of_target)


def _domains(inputs: ReportInputs) -> DomainTable | NotMeasured:
    judged = inputs.judged
    if judged is None:
        return NotMeasured("The job has neither a validation nor a test file.")
    if domains_of(judged.records, inputs.domain_column) is None:
        return NotMeasured(
            f"The {judged.records.split} file has no column {inputs.domain_column!r} that says which domain a record "
            "is of."
        )
    return score_domains(inputs.task, inputs.variant, judged, inputs.domain_column, inputs.control, inputs.seed)
