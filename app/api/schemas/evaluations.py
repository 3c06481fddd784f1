"""Evaluations as a client asks for them and sees them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, model_validator

from app.api.schemas.base import Derived, Object, RequestModel, ResponseModel, one_of, optional_seconds, seconds
from app.api.schemas.files import FILE_ID, Columns
from app.api.schemas.job_objects import MODEL_ID, JobError
from app.api.schemas.jobs import FileId, Metadata, gather_metadata, task_options
from app.catalog.slices import SliceBy
from app.jobs.evaluations import NewEvaluation
from app.jobs.service import MAX_SEED
from app.tables import JOB_STATUSES, Job

EvaluationStatus = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]
STATUSES = tuple(status for status in JOB_STATUSES if status != "paused")

EVALUATION_ID = "eval-1b2c3d4e5f60718293a4b5c6d7e8f9"
RESULT_FILE_ID = "file-92c3d4e5f60718293a4b5c6d7e8f90"
REPORT_FILE_ID = "file-a3d4e5f60718293a4b5c6d7e8f9011"
MINIMAL: Object = {"model": MODEL_ID, "file": FILE_ID}
FULL: Object = MINIMAL | {
    "task": {"type": "text-classification"},
    "columns": {"text": "review", "label": "sentiment"},
    "slice_by": {"type": "column", "column": "domain"},
    "seed": 13,
    "metadata": {"release": "2026-01"},
}
METRICS: Object = {
    "accuracy": 0.91,
    "f1_macro": 0.909,
    "loss": 0.24,
    "rows": 400,
    "labels": ["negative", "positive"],
    "per_class": [
        {"label": "negative", "precision": 0.9, "recall": 0.92, "f1": 0.91, "support": 200},
        {"label": "positive", "precision": 0.92, "recall": 0.9, "f1": 0.909, "support": 200},
    ],
    "confusion_matrix": [[184, 16], [20, 180]],
    "intervals": {"accuracy": [0.882, 0.937], "f1_macro": [0.88, 0.936]},
    "calibration": {
        "ece": 0.031,
        "of": "predicted labels",
        "bins": [{"from": 0.8667, "to": 0.9333, "count": 61, "confidence": 0.9, "accuracy": 0.87}],
    },
}
EXAMPLE: Object = {
    "id": EVALUATION_ID,
    "object": "evaluation",
    "created_at": 1767225700,
    "finished_at": 1767225712,
    "organization_id": "proj-5f0c2d1e9ab4c7d8e6f1a2b3c4d5e6",
    "status": "succeeded",
    "model": MODEL_ID,
    "file": FILE_ID,
    "task": {"type": "text-classification", "problem_type": "single_label_classification"},
    "columns": {},
    "slice_by": {"type": "column", "column": "domain"},
    "seed": 13,
    "metadata": {},
    "progress": {"name": "scoring", "done": 400, "total": 400},
    "estimated_finish": None,
    "attempt": 1,
    "max_attempts": 3,
    "run_seconds": 4.2,
    "metrics": METRICS,
    "baseline": {
        "name": "majority",
        "description": "Every text is 'negative', the file's most frequent label.",
        "values": {"accuracy": 0.5, "f1_macro": 0.333},
    },
    "slices": [
        {
            "slice": "film",
            "rows": 250,
            "metrics": {"accuracy": 0.93, "f1_macro": 0.93},
            "intervals": {"accuracy": [0.897, 0.959]},
        }
    ],
    "slices_left_out": 0,
    "result_file": RESULT_FILE_ID,
    "report_file": REPORT_FILE_ID,
    "error": None,
}


class EvaluationCreate(RequestModel):
    """An evaluation as asked for."""

    model_config = ConfigDict(json_schema_extra={"examples": [MINIMAL, FULL]})

    model: str = Field(
        min_length=1,
        max_length=256,
        description="A fine-tuned model, a checkpoint (`…:ckpt-step-N`), or a base model that has a head for the task.",
    )
    file: FileId = Field(description="Id of an uploaded file of the model's task, with the right answers in it.")
    task: Annotated[BaseModel | None, Derived(task_options() | None)] = Field(
        default=None,
        description="Of a base model: the task with its options; left out: the one the file was uploaded for, or looks "
        "like. A fine-tuned model has its own.",
    )
    columns: Columns | None = None
    slice_by: Annotated[BaseModel | None, Derived(SliceBy | None)] = Field(
        default=None,
        description="Also score parts of the file: for each value of one of its columns, or by length in tokens.",
    )
    seed: Annotated[StrictInt, Field(ge=0, le=MAX_SEED)] | None = Field(
        default=None,
        description="Of the resamples. Left out: that of the job that made the model, so that its test file gives the "
        "very numbers of the job; 0 for base models.",
    )
    metadata: Metadata | None = Field(default=None, description="Up to 16 pairs of strings to find it by.")

    def to_new_evaluation(self) -> NewEvaluation:
        """The evaluation for the service."""
        return NewEvaluation(
            model=self.model,
            file=self.file,
            task=self.task.model_dump(mode="json", exclude_unset=True) if self.task else None,
            columns=self.columns or {},
            slice_by=self.slice_by.model_dump(mode="json") if self.slice_by else None,
            seed=self.seed,
            metadata=self.metadata or {},
        )


class EvaluationListQuery(RequestModel):
    """Which evaluations, and how many."""

    limit: int = Field(default=20, ge=1, le=100, description="Length of a page.")
    after: str | None = Field(default=None, description="Cursor: the last id of the page before.")
    model: str | None = Field(default=None, description="Only evaluations of this model.")
    file: str | None = Field(default=None, description="Only evaluations on this file.")
    status: Annotated[str | None, Derived(one_of(STATUSES) | None)] = Field(
        default=None, description="Only evaluations in this state."
    )
    metadata: dict[str, str] | None = Field(
        default=None,
        description="Only evaluations with these pairs, written `metadata[key]=value`; `metadata=null`: without any.",
    )

    @model_validator(mode="before")
    @classmethod
    def _gather_metadata(cls, query: dict[str, Any]) -> dict[str, Any]:
        return gather_metadata(query)


class BaselineObject(ResponseModel):
    """An answer that needs no model, scored by the same metrics: what the model has to beat."""

    name: str = Field(description="Such as `majority` or `mean`.")
    description: str
    values: dict[str, float]


class SliceObject(ResponseModel):
    """A part of the file, scored by itself."""

    slice: str = Field(description="The column's value, or the range of lengths.")
    rows: int
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]] = Field(description="95 % bootstrap intervals.")


class EvaluationObject(ResponseModel):
    """How good a model is on a file."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: str
    object: Literal["evaluation"] = "evaluation"
    created_at: int = Field(description="Unix seconds.")
    finished_at: int | None = Field(description="Unix seconds; null until it has ended.")
    organization_id: str = Field(description="The project.")
    status: EvaluationStatus
    model: str
    file: str
    task: dict[str, Any] = Field(description="The task with its options, as the model was trained or as was told.")
    columns: dict[str, str]
    slice_by: dict[str, Any] | None
    seed: int
    metadata: dict[str, str]
    progress: dict[str, Any] | None = Field(description="`name` of what goes on, `done` of `total` windows of text.")
    estimated_finish: int | None = Field(description="Unix seconds; null unless it runs.")
    attempt: int = Field(description="How often it was started; drained workers are not counted.")
    max_attempts: int
    run_seconds: float
    metrics: dict[str, Any] | None = Field(
        description="As in the job's `metrics`: numbers by name, `intervals` (95 % bootstrap), `per_class`, "
        "`confusion_matrix` [right][predicted], `calibration` (expected calibration error with its bins), `rows`; what "
        "of these the task has. Null until there are some."
    )
    baseline: BaselineObject | None
    slices: list[SliceObject] | None = Field(description="Null unless asked for; the 50 largest.")
    slices_left_out: int | None = Field(description="How many slices there are besides.")
    result_file: str | None = Field(
        description="JSONL with a line for every row: `row` (its place in the file), `target`, `prediction`, "
        "`confidence`. `GET /v1/files/{id}/content`."
    )
    report_file: str | None = Field(description="The result as an HTML page that needs nothing else.")
    error: JobError | None = Field(description="Why it failed; null otherwise.")

    @classmethod
    def of(cls, job: Job) -> "EvaluationObject":
        """The object of a row."""
        found = job.metrics or {}
        result_file, report_file = [*job.result_files, None, None][:2]
        return cls.model_validate(
            {
                "id": job.id,
                "created_at": seconds(job.created_at),
                "finished_at": optional_seconds(job.finished_at),
                "organization_id": job.project_id,
                "status": job.status,
                "model": job.model,
                "file": job.test_file,
                "task": job.spec["task"],
                "columns": job.spec["columns"],
                "slice_by": job.spec["slice_by"],
                "seed": job.seed,
                "metadata": job.metadata_,
                "progress": job.progress,
                "estimated_finish": optional_seconds(job.estimated_finish),
                "attempt": job.attempt,
                "max_attempts": job.max_attempts,
                "run_seconds": round(job.run_seconds, 2),
                "metrics": found.get("metrics"),
                "baseline": found.get("baseline"),
                "slices": found.get("slices"),
                "slices_left_out": found.get("slices_left_out"),
                "result_file": result_file,
                "report_file": report_file,
                "error": job.error or None,
            }
        )


class EvaluationList(ResponseModel):
    """A page of evaluations, newest first."""

    object: Literal["list"] = "list"
    data: list[EvaluationObject]
    has_more: bool
