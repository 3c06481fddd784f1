"""A fine-tuning job as a client sees it, and its numbers."""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from app.api.schemas.base import Object, ResponseModel, optional_seconds, seconds
from app.api.schemas.files import FILE_ID
from app.api.schemas.jobs import VALIDATION_FILE_ID
from app.catalog.hyperparameters import Hyperparameters
from app.jobs.inputs import target_files
from app.tables import Job, JobMetric

JobStatus = Literal["validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"]

JOB_ID = "ftjob-0a1b2c3d4e5f60718293a4b5c6d7e8"
MODEL_ID = "ft:starter/minilm-l6:default:reviews:1f3a5c7e"
HYPERPARAMETERS: Object = Hyperparameters(n_epochs=3, batch_size=16, learning_rate=2e-4).model_dump(mode="json")
EXAMPLE: Object = {
    "id": JOB_ID,
    "object": "fine_tuning.job",
    "created_at": 1767225600,
    "finished_at": None,
    "model": "starter/minilm-l6",
    "fine_tuned_model": None,
    "organization_id": "proj-5f0c2d1e9ab4c7d8e6f1a2b3c4d5e6",
    "status": "running",
    "hyperparameters": HYPERPARAMETERS,
    "training_file": FILE_ID,
    "validation_file": VALIDATION_FILE_ID,
    "test_file": None,
    "target_files": [],
    "result_files": [],
    "trained_tokens": None,
    "error": None,
    "seed": 13,
    "estimated_finish": 1767225660,
    "integrations": [],
    "method": {"type": "supervised", "supervised": {"hyperparameters": HYPERPARAMETERS}},
    "metadata": {"experiment": "baseline"},
    "task": {"type": "text-classification", "problem_type": "single_label_classification"},
    "adaptation": {},
    "columns": {},
    "preprocessing": None,
    "progress": {"step": 40, "total_steps": 96, "epoch": 1.25, "examples_per_second": 210.4},
    "attempt": 1,
    "max_attempts": 3,
    "run_seconds": 0.0,
    "time_limit_s": None,
    "metrics": None,
    "user_provided_suffix": "reviews",
}


class JobError(ResponseModel):
    """Why a job failed."""

    model_config = ConfigDict(extra="allow")

    code: str
    message: str
    param: str | None = None


class SupervisedMethod(ResponseModel):
    """Hyperparameters in the place where a client gave them."""

    hyperparameters: dict[str, Any]


class JobMethod(ResponseModel):
    """How the job trains."""

    type: Literal["supervised"] = "supervised"
    supervised: SupervisedMethod


class JobObject(ResponseModel):
    """A fine-tuning job."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int = Field(description="Unix seconds.")
    finished_at: int | None = Field(description="Unix seconds; null until the job has ended.")
    model: str = Field(description="The base model.")
    fine_tuned_model: str | None = Field(description="The result; null until the job has succeeded.")
    organization_id: str = Field(description="The project.")
    status: JobStatus
    hyperparameters: dict[str, Any] = Field(description="No `auto` is left in them once the job runs.")
    training_file: str
    validation_file: str | None
    test_file: str | None
    target_files: list[str] = Field(description="Unlabelled texts of the domain that the model is for.")
    result_files: list[str] = Field(description="Files that the job made: `GET /v1/files/{id}/content`.")
    trained_tokens: int | None
    error: JobError | None = Field(description="Why the job failed; null otherwise.")
    seed: int
    estimated_finish: int | None = Field(description="Unix seconds; null unless the job runs.")
    integrations: list[Any] = Field(default_factory=list[Any])
    method: JobMethod
    metadata: dict[str, str]
    task: dict[str, Any] = Field(
        description="The task with its options. What was left out is told from the training file once it is prepared."
    )
    adaptation: dict[str, Any]
    columns: dict[str, str]
    preprocessing: dict[str, Any] | None = Field(
        description="What is done to the records first, with every default filled in; null: nothing."
    )
    progress: dict[str, Any] | None = Field(
        description="`step`, `total_steps`, `epoch`, `examples_per_second`; `stage` while it is not the job's task "
        "that is trained; `phase` (`name`, `done`, `total`) while something else goes on between steps, such as an "
        "evaluation."
    )
    attempt: int = Field(description="How often the job was started; pauses and drained workers are not counted.")
    max_attempts: int = Field(description="A lost worker or a crash in the last attempt fails the job.")
    run_seconds: float = Field(description="How long it has run in all attempts that are over, waiting left out.")
    time_limit_s: int | None = Field(description="Seconds it may run; null: as long as it takes.")
    metrics: dict[str, Any] | None = Field(description="Results of the best model; null until there are some.")
    user_provided_suffix: str | None

    @classmethod
    def of(cls, job: Job) -> "JobObject":
        """The object of a row."""
        return cls.model_validate(
            {
                "id": job.id,
                "created_at": seconds(job.created_at),
                "finished_at": optional_seconds(job.finished_at),
                "model": job.model,
                "fine_tuned_model": job.fine_tuned_model,
                "organization_id": job.project_id,
                "status": job.status,
                "hyperparameters": job.hyperparameters,
                "training_file": job.training_file,
                "validation_file": job.validation_file,
                "test_file": job.test_file,
                "target_files": target_files(job),
                "result_files": job.result_files,
                "trained_tokens": job.trained_tokens,
                "error": job.error or None,
                "seed": job.seed,
                "estimated_finish": optional_seconds(job.estimated_finish),
                "method": {"supervised": {"hyperparameters": job.hyperparameters}},
                "metadata": job.metadata_,
                "task": job.spec["task"],
                "adaptation": job.spec["adaptation"],
                "columns": job.spec["columns"],
                "preprocessing": job.spec.get("preprocessing"),
                "progress": job.progress,
                "attempt": job.attempt,
                "max_attempts": job.max_attempts,
                "run_seconds": round(job.run_seconds, 2),
                "time_limit_s": job.time_limit_s,
                "metrics": job.metrics,
                "user_provided_suffix": job.suffix,
            }
        )


class JobList(ResponseModel):
    """A page of jobs, newest first."""

    object: Literal["list"] = "list"
    data: list[JobObject]
    has_more: bool


class MetricObject(ResponseModel):
    """One number at one step."""

    stage: str | None = Field(
        description="`continued_pretraining`, `meta_learning` or `control`; null: the training of the job's task. "
        "Steps count from the first stage on."
    )
    name: str
    split: str
    step: int
    epoch: float
    value: float
    created_at: int

    @classmethod
    def of(cls, metric: JobMetric) -> "MetricObject":
        """The object of a row."""
        return cls(
            stage=metric.stage,
            name=metric.name,
            split=metric.split,
            step=metric.step,
            epoch=metric.epoch,
            value=metric.value,
            created_at=seconds(metric.created_at),
        )
