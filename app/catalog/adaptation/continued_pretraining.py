"""The catalogue entry of continued pretraining: a stage on unlabelled texts before the task."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, StrictFloat, StrictInt

from app.catalog.adaptation.spec import FileId, JobFacts, MethodOptions, MethodSpec, NeededFile
from app.catalog.fill_mask import FILL_MASK
from app.catalog.task_spec import TaskSpec
from app.catalog.text_generation import TEXT_GENERATION

NAME = "continued_pretraining"
OBJECTIVES = {"masked": FILL_MASK, "causal": TEXT_GENERATION}  # and the task whose models can be trained on it


class ContinuedPretrainingOptions(MethodOptions):
    """`adaptation.continued_pretraining` of a job."""

    files: list[FileId] = Field(
        default=[],
        max_length=100,
        description="Unlabelled texts to train on: plain text, or records with a `text`, whose other columns do not "
        "matter.",
    )
    use_target_files: StrictBool = Field(
        default=True, description="Train on the job's `target_files` as well (domain-adaptive)."
    )
    use_training_texts: StrictBool = Field(
        default=False,
        description="Train on the texts of the training file as well, without its labels (task-adaptive).",
    )
    objective: Literal["masked", "causal", "auto"] = Field(
        default="auto",
        description="Predict masked tokens, or each next token. `auto`: what the base model was made for.",
    )
    n_epochs: Annotated[StrictInt, Field(ge=1, le=100)] = Field(
        default=1, description="How often each text is seen, with other tokens masked each time."
    )
    max_steps: Annotated[StrictInt, Field(ge=1, le=100_000_000)] | None = Field(
        default=None, description="At most this many steps of the stage."
    )
    learning_rate: Annotated[StrictFloat, Field(gt=0, le=1)] | None = Field(
        default=None,
        description="Of the stage. Left out: what `auto` is for the job, but 3e-5 where the base model has no "
        "head for the objective: the gradients of a new one would undo what the model knows.",
    )
    batch_size: Annotated[StrictInt, Field(ge=1, le=4096)] | None = Field(
        default=None, description="Blocks of text in a step. Left out: what `auto` is for the job."
    )
    max_length: Annotated[StrictInt, Field(ge=8, le=131_072)] | None = Field(
        default=None,
        description="Tokens of a block; shorter ones train faster. Left out: `hyperparameters.max_length` of the job, "
        "and where that is `auto`, the model's window, but at most 512 (masked) or 1024 (causal).",
    )
    mlm_probability: Annotated[StrictFloat, Field(ge=0.01, le=0.9)] = Field(
        default=0.15, description="Share of the tokens to predict, with the objective `masked`."
    )
    whole_word_masking: StrictBool = Field(
        default=False, description="All tokens of a word are predicted together, with the objective `masked`."
    )


def _files(options: ContinuedPretrainingOptions, task: Mapping[str, Any]) -> tuple[NeededFile, ...]:
    return tuple(
        NeededFile(f"{NAME}.files.{place}", file_id, {"type": FILL_MASK.name})
        for place, file_id in enumerate(options.files)
    )


def objectives_of(model_type: str) -> dict[str, TaskSpec]:
    """The objectives that a model of this type can be trained on, the first of them `auto`, and their tasks."""
    return {name: spec for name, spec in OBJECTIVES.items() if model_type in spec.model_types}


def _misfit(options: ContinuedPretrainingOptions, facts: JobFacts) -> str | None:
    if not (options.files or options.use_training_texts or (options.use_target_files and facts.target_files)):
        return (
            "has no texts to train on. Give the job target_files"
            f"{'' if options.use_target_files else ' and leave use_target_files out'}, name files in "
            f"adaptation.{NAME}.files, or set adaptation.{NAME}.use_training_texts to true."
        )
    if facts.model_type is None:
        return None
    possible = list(objectives_of(facts.model_type))
    if not possible:
        return (
            f"trains encoders on masked tokens and decoders on next tokens, and the base model is of type "
            f"{facts.model_type!r}, which is neither. Leave adaptation.{NAME} out, or use another model."
        )
    if options.objective not in ("auto", *possible):
        return (
            f"has the objective {options.objective!r}, and the base model is of type {facts.model_type!r}, which can "
            f"be trained on {possible[0]!r}. Leave adaptation.{NAME}.objective out."
        )
    return None


CONTINUED_PRETRAINING = MethodSpec(
    name=NAME,
    title="Continued pretraining: a stage before the task on unlabelled texts of the domain (Gururangan et al. 2020)",
    options=ContinuedPretrainingOptions,
    impl="worker.methods.continued_pretraining:ContinuedPretraining",
    example={"n_epochs": 3, "use_training_texts": True},
    files=_files,
    misfit=_misfit,
)
