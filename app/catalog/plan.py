"""What a child process is told to do: `plan.json` in its run directory. All paths are relative to that directory."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from app.catalog.hyperparameters import Hyperparameters
from app.catalog.preprocessing import Preprocessing
from app.catalog.slices import SliceBy


class Plan(BaseModel):
    """Fields that every kind of plan has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    job_id: str
    attempt: int


class DataFile(BaseModel):
    """One prepared split: canonical records as Parquet, and where they came from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    file_id: str
    filename: str
    sha256: str
    rows: int


class TrainingPlan(Plan):
    """Fine-tune `base/` on `data/*.parquet` and leave the result in `artifact/`."""

    kind: Literal["fine_tuning"] = "fine_tuning"
    task: dict[str, Any] = Field(description="The task's options, `type` included.")
    adaptation: dict[str, dict[str, Any]]
    hyperparameters: Hyperparameters
    preprocessing: Preprocessing = Preprocessing()
    seed: int
    model: str = Field(description="Id of the base model, for the model card.")
    fine_tuned_model: str = Field(description="Id the result will have.")
    base: str
    train: DataFile
    validation: DataFile | None
    test: DataFile | None
    target: tuple[DataFile, ...] = Field(
        default=(), description="Unlabelled texts of the domain that the model is for: records of `fill-mask`."
    )
    method_files: dict[str, DataFile] = Field(
        default={}, description="Files that methods read besides, by `method.option`."
    )
    method_models: dict[str, str] = Field(
        default={}, description="Directories of models that methods use besides, by `method.option`."
    )
    resume_from: str | None = Field(default=None, description="A checkpoint directory to go on from.")
    checkpoint_interval_s: float = Field(
        default=600.0, description="A checkpoint at least this often, besides every evaluation."
    )
    memory_bytes: int | None = Field(default=None, description="Memory it may take beyond what it starts with.")


class PreparationLimits(BaseModel):
    """Bounds within which untrusted bytes are parsed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_decompressed_bytes: int
    max_row_bytes: int
    memory_bytes: int
    timeout_s: float


class PreparationPlan(Plan):
    """Read `source` as records of `task` and leave them in `prepared/records.parquet`; the report is in the result.

    Without a task, and without the option that names its variant, they are told from the file; the report says which.
    """

    kind: Literal["preparation"] = "preparation"
    source: str
    filename: str
    task: str | None
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the task that records depend on.")
    columns: dict[str, str]
    extras: tuple[str, ...] = Field(default=(), description="Columns to keep beside the task's fields.")
    model: str | None = Field(default=None, description="Id of the model whose tokens lengths are counted in.")
    fitting_tasks: tuple[str, ...] | None = Field(
        default=None, description="Tasks that the model fits, none if that is not known. They settle a doubt."
    )
    tokenizer: str | None = Field(default=None, description="Path of its `tokenizer.json`.")
    max_length: int | None = Field(default=None, description="Its window in tokens.")
    limits: PreparationLimits


class RegistrationPlan(Plan):
    """Unpack `source` (an archive, or a directory that was downloaded), check it and leave the model in `model/`."""

    kind: Literal["registration"] = "registration"
    source: str
    filename: str = Field(description="The client's name for it, for messages.")
    revision: str | None = Field(default=None, description="The commit of the hub that it was downloaded from.")
    model: str = Field(description="Id that the model will have.")
    limits: PreparationLimits


class EvaluationPlan(Plan):
    """Score the model in `directory` on `data`; predictions, statistics of rows and a report lie beside it then."""

    kind: Literal["evaluation"] = "evaluation"
    task: dict[str, Any] = Field(description="The task's options, `type` included.")
    model: str = Field(description="Id of the model, for messages.")
    directory: str
    data: DataFile
    seed: int
    slice_by: SliceBy | None = None
    max_length: int | None = Field(default=None, description="The window that the model was trained with, if known.")
    precision: Literal["fp32", "bf16", "fp16"] | None = Field(default=None, description="That it was trained in.")
    preprocessing: Preprocessing | None = Field(
        default=None, description="How texts were cleaned in training; left out: what the directory says."
    )
    memory_bytes: int | None = Field(default=None, description="Memory it may take beyond what it starts with.")


AnyPlan = Annotated[TrainingPlan | PreparationPlan | RegistrationPlan | EvaluationPlan, Field(discriminator="kind")]
PLAN: TypeAdapter[TrainingPlan | PreparationPlan | RegistrationPlan | EvaluationPlan] = TypeAdapter(AnyPlan)
