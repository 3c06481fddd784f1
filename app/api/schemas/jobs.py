"""What a client sends to ask for a fine-tuning job, and how it looks for some."""

import re
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictInt,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from app.api.schemas.base import Derived, Object, RequestModel, one_of
from app.api.schemas.files import FILE_ID, Columns
from app.catalog.hyperparameters import Hyperparameters
from app.catalog.methods import METHODS, conflict
from app.catalog.preprocessing import Preprocessing
from app.catalog.tasks import TASKS
from app.jobs.service import MAX_SEED, NewJob
from app.tables import JOB_STATUSES

MAX_TIME_LIMIT_S = 366 * 24 * 3600
MAX_TARGET_FILES = 10
METADATA_PAIRS, METADATA_KEY, METADATA_VALUE = 16, 64, 512
VALIDATION_FILE_ID = "file-81b2c3d4e5f60718293a4b5c6d7e8f"
TARGET_FILE_ID = "file-92c3d4e5f60718293a4b5c6d7e8f90"

METADATA_PAIR = re.compile(r"metadata\[(.*)\]", re.DOTALL)
FileId = Annotated[str, Field(pattern=r"^file-[0-9a-f]{1,64}$", examples=[FILE_ID])]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=METADATA_KEY)], Annotated[str, Field(max_length=METADATA_VALUE)]],
    Field(max_length=METADATA_PAIRS),
]


def task_options() -> Any:
    """The options of every task of the catalogue, told apart by `type`."""
    options = tuple(spec.options for spec in TASKS.values())
    union: Any = reduce(or_, options)
    return Annotated[union, Field(discriminator="type")] if len(options) > 1 else union


class _Adaptation(RequestModel):
    """Methods of adaptation by name, which compose; none or `full`: every parameter trains."""

    @model_validator(mode="after")
    def _all_compose(self) -> Self:
        if (found := conflict({name: getattr(self, name) for name in self.model_fields_set})) is not None:
            one, other, reason = found
            raise ValueError(f"{one} and {other} do not go together: {reason}. Leave one of them out")
        return self


_FIELDS: dict[str, Any] = {
    spec.name: (spec.options, Field(default=None, description=spec.title)) for spec in METHODS.values()
}
Adaptation: type[BaseModel] = create_model("Adaptation", __base__=_Adaptation, __doc__=_Adaptation.__doc__, **_FIELDS)


class Supervised(RequestModel):
    """Options of supervised fine-tuning."""

    hyperparameters: Hyperparameters = Field(default_factory=Hyperparameters)


class Method(RequestModel):
    """How to train."""

    type: Literal["supervised"]
    supervised: Supervised = Field(default_factory=Supervised)


MINIMAL: Object = {"model": "starter/minilm-l6", "training_file": FILE_ID}
FULL: Object = MINIMAL | {
    "validation_file": VALIDATION_FILE_ID,
    "target_files": [TARGET_FILE_ID],
    "suffix": "reviews",
    "seed": 13,
    "metadata": {"experiment": "baseline"},
    "task": {"type": "text-classification"},
    "columns": {"text": "review", "label": "sentiment"},
    "preprocessing": {"strip_html": True, "collapse_whitespace": True},
    "method": {
        "type": "supervised",
        "supervised": {"hyperparameters": {"n_epochs": 3, "batch_size": 16, "learning_rate": 0.0002}},
    },
    "adaptation": {"continued_pretraining": {"n_epochs": 2}, "freeze": {"layers": ["embeddings", "0-2"]}},
}


class JobCreate(RequestModel):
    """A fine-tuning job as asked for."""

    model_config = ConfigDict(json_schema_extra={"examples": [MINIMAL, FULL]})

    model: str = Field(min_length=1, max_length=256, description="Base model; `GET /v1/models` lists them.")
    training_file: FileId = Field(description="Id of an uploaded file with purpose `fine-tune`.")
    validation_file: FileId | None = Field(default=None, description="Evaluated while training, to choose the best.")
    test_file: FileId | None = Field(default=None, description="Scored once, at the end, and never used to choose.")
    target_files: Annotated[list[FileId], Field(min_length=1, max_length=MAX_TARGET_FILES)] | None = Field(
        default=None,
        description="Unlabelled texts of the domain that the model is for, which methods of adaptation learn from and "
        "the domain report compares with: plain text, or records with a `text`, whose other columns do not matter.",
    )
    suffix: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")] | None = Field(
        default=None, description="Part of the fine-tuned model's id."
    )
    seed: Annotated[StrictInt, Field(ge=0, le=MAX_SEED)] | None = Field(
        default=None, description="Same seed, data and parameters: same model. Left out: one is drawn and shown."
    )
    metadata: Metadata | None = Field(
        default=None, description="Up to 16 pairs of strings (64 and 512 characters) to find the job by."
    )
    integrations: Annotated[list[Any], Field(max_length=0)] | None = Field(
        default=None, description="Tailor has no integrations: null or an empty list."
    )
    method: Method | None = Field(default=None, description="How to train; left out: supervised with defaults.")
    hyperparameters: Hyperparameters | None = Field(
        default=None,
        json_schema_extra={"deprecated": True},
        description="Old place of `method.supervised.hyperparameters`.",
    )
    task: Annotated[BaseModel | None, Derived(task_options() | None)] = Field(
        default=None,
        description="The task with its options; left out: the one the training file was uploaded for, or looks like.",
    )
    columns: Columns | None = None
    preprocessing: Preprocessing | None = Field(
        default=None,
        description="What is done to the records first: cleaning of texts, which the model's artifact records and "
        "every evaluation repeats, removal of copies, and a split of the training file. Left out: nothing.",
    )
    time_limit_s: Annotated[StrictInt, Field(ge=1, le=MAX_TIME_LIMIT_S)] | None = Field(
        default=None,
        description="Seconds that the job may run, pauses and waiting left out; then it fails as `time_limit_reached` "
        "and keeps its last checkpoint. Left out: the installation's limit, if it has one.",
    )
    adaptation: Annotated[BaseModel | None, Derived(Adaptation | None)] = Field(
        default=None, description="Methods of adaptation by name; left out: full fine-tuning."
    )

    @field_validator("target_files")
    @classmethod
    def _each_once(cls, value: list[str] | None) -> list[str] | None:
        twice = next((file for place, file in enumerate(value or ()) if file in (value or ())[:place]), None)
        if twice is not None:
            raise ValueError(f"{twice} is named twice; name each file once")
        return value

    @field_validator("integrations", mode="before")
    @classmethod
    def _no_integrations(cls, value: object) -> object:
        if isinstance(value, list) and value:
            raise ValueError("Tailor has no integrations; give null or an empty list")
        return value

    @model_validator(mode="after")
    def _split_where_there_is_no_file(self) -> Self:
        split = self.preprocessing.split if self.preprocessing else None
        for name in ("validation", "test"):
            if split is not None and getattr(self, f"{name}_file") is not None and getattr(split, name):
                raise ValueError(
                    f"{name}_file and preprocessing.split.{name} {getattr(split, name):g} were both given; leave the "
                    f"file out, or set preprocessing.split.{name} to 0"
                )
        return self

    @model_validator(mode="after")
    def _one_place_for_hyperparameters(self) -> Self:
        if self.hyperparameters is not None and self.method is not None:
            raise ValueError(
                "hyperparameters and method were both given; give method.supervised.hyperparameters, as the top-level "
                "hyperparameters are deprecated"
            )
        return self

    def to_new_job(self) -> NewJob:
        """The job for the service, in flat, typed values."""
        hyperparameters = self.hyperparameters
        if self.method is not None:
            hyperparameters = self.method.supervised.hyperparameters
        return NewJob(
            model=self.model,
            training_file=self.training_file,
            validation_file=self.validation_file,
            test_file=self.test_file,
            target_files=self.target_files or (),
            suffix=self.suffix,
            seed=self.seed,
            metadata=self.metadata or {},
            hyperparameters=hyperparameters or Hyperparameters(),
            task=self.task.model_dump(mode="json") if self.task else None,
            columns=self.columns or {},
            preprocessing=self.preprocessing,
            time_limit_s=self.time_limit_s,
            adaptation=self.adaptation.model_dump(mode="json", exclude_unset=True) if self.adaptation else {},
        )


class JobListQuery(RequestModel):
    """Which jobs, and how many."""

    limit: int = Field(default=20, ge=1, le=100, description="Length of a page.")
    after: str | None = Field(default=None, description="Cursor: the last id of the page before.")
    status: Annotated[str | None, Derived(one_of(JOB_STATUSES) | None)] = Field(
        default=None, description="Only jobs in this state."
    )
    metadata: dict[str, str] | None = Field(
        default=None,
        description="Only jobs with these pairs, written `metadata[key]=value`; `metadata=null`: jobs without any.",
    )

    @model_validator(mode="before")
    @classmethod
    def _gather_metadata(cls, query: dict[str, Any]) -> dict[str, Any]:
        return gather_metadata(query)


def gather_metadata(query: dict[str, Any]) -> dict[str, Any]:
    """A query with its `metadata[key]=value` as one mapping; `metadata=null` is the empty one."""
    pairs = {match[1]: value for name, value in query.items() if (match := METADATA_PAIR.fullmatch(name))}
    rest = {name: value for name, value in query.items() if not METADATA_PAIR.fullmatch(name)}
    if rest.get("metadata") == "null":
        rest["metadata"] = {}
    return rest | ({"metadata": pairs} if pairs else {})


class PageQuery(RequestModel):
    """A page of a job's checkpoints."""

    limit: int = Field(default=20, ge=1, le=1000, description="Length of a page.")
    after: str | None = Field(default=None, description="Cursor: the last id of the page before.")


class EventsQuery(RequestModel):
    """A page of a job's events, or the stream of them."""

    stream: bool = Field(
        default=False, description="`true`: server-sent events, oldest first and live, until the job has ended."
    )
    limit: int = Field(default=20, ge=1, le=1000, description="Length of a page.")
    after: str | None = Field(
        default=None,
        description="Cursor: the last id of the page before; of a stream that goes on, the last id received.",
    )

    @field_validator("limit")
    @classmethod
    def _a_stream_has_no_pages(cls, limit: int, given: ValidationInfo) -> int:
        if given.data.get("stream"):
            raise ValueError("a stream has no pages; leave out limit or stream=true")
        return limit
