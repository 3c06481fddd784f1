"""The catalogue entry of training on further tasks beside the job's own, with heads of their own on the same body."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, model_validator

from app.catalog.adaptation.spec import CONTROL, FileId, JobFacts, MethodOptions, MethodSpec, NeededFile
from app.catalog.fill_mask import FillMaskOptions
from app.catalog.question_answering import QuestionAnsweringOptions
from app.catalog.tasks import TASKS
from app.catalog.text_classification import TextClassificationOptions
from app.catalog.token_classification import TokenClassificationOptions

READING_TASKS = ("text-classification", "token-classification", "question-answering", "fill-mask")
ReadingOptions = Annotated[
    TextClassificationOptions | TokenClassificationOptions | QuestionAnsweringOptions | FillMaskOptions,
    Field(discriminator="type"),
]


class AuxiliaryTask(BaseModel):
    """A task beside the job's own."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")] = Field(
        description="What reports call it, and its folder in the artifact's `heads`."
    )
    task: ReadingOptions = Field(
        description="The task with its options, as in a job. Left out, `problem_type` is a single label."
    )
    training_file: FileId = Field(description="Id of the file that it learns from.")
    columns: Annotated[dict[str, str], Field(max_length=20)] = Field(
        default={}, description="Columns of the file by the task's fields, where they have other names."
    )
    weight: Annotated[StrictFloat, Field(gt=0, le=1000)] = Field(
        default=1.0, description="Weight of its loss beside the job's own, whose weight is 1."
    )

    def reading(self) -> dict[str, Any]:
        """Its options with the variant named, so that its file is read as nothing else."""
        options = self.task.model_dump(mode="json")
        spec = TASKS[self.task.type]
        return options | spec.with_variant(spec.variant(options))


class MultiTaskOptions(MethodOptions):
    """`adaptation.multi_task` of a job."""

    tasks: Annotated[list[AuxiliaryTask], Field(min_length=1, max_length=8)] = Field(
        description="The tasks that train beside the job's own. Every batch of the job comes with a batch, of as many "
        "windows, of one of them; steps and epochs are the job's."
    )
    sampling: Literal["proportional", "temperature", "annealed"] = Field(
        default="proportional",
        description="How probable each of `tasks` is, by its number N of windows. `proportional`: as N. `temperature`: "
        "as N ^ (1 / temperature). `annealed`: as N ^ (1 - 0.8 p), p from 0 to 1 being the share of the steps that is "
        "done: in the end all train about alike (Stickland & Murray 2019).",
    )
    temperature: Annotated[StrictFloat, Field(ge=1, le=1000)] = Field(
        default=2.0, description="With `sampling` `temperature`: 1 is proportional, large ones make all alike."
    )
    weights: Literal["fixed", "uncertainty"] = Field(
        default="fixed",
        description="`fixed`: losses are added with the weights of `tasks`. `uncertainty`: each is also divided by a "
        "variance that is learned, and half the variance's logarithm is added (Kendall et al. 2018).",
    )
    control: StrictBool = Field(default=True, description=CONTROL)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [task.name for task in self.tasks]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two tasks are called {twice[0]!r}; give each a name of its own")
        return self


def file_key(number: int) -> str:
    """Where the options name the file of a task, by its place in `tasks`."""
    return f"tasks.{number}.training_file"


def _files(options: MultiTaskOptions, task: Mapping[str, Any]) -> tuple[NeededFile, ...]:
    return tuple(
        NeededFile(f"multi_task.{file_key(number)}", one.training_file, one.reading(), one.columns)
        for number, one in enumerate(options.tasks)
    )


def _misfit(options: MultiTaskOptions, facts: JobFacts) -> str | None:
    for number, one in enumerate(options.tasks):
        types = TASKS[one.task.type].model_types
        if facts.model_type is not None and facts.model_type not in types:
            return (
                f"has {one.name!r}, a task of {one.task.type}, which models of type {facts.model_type!r} cannot be "
                f"trained for. Leave adaptation.multi_task.tasks.{number} out, or use a model of one of the types "
                f"{', '.join(sorted(types))}."
            )
    return None


MULTI_TASK = MethodSpec(
    name="multi_task",
    title="Multi-task learning: further tasks train on the same body, each with its own head",
    options=MultiTaskOptions,
    impl="worker.methods.multi_task:MultiTask",
    tasks=READING_TASKS,
    why_tasks="its heads read what the body makes of a text, and the model of this task writes texts",
    files=_files,
    misfit=_misfit,
    example={
        "tasks": [
            {
                "name": "entities",
                "task": {"type": "token-classification"},
                "training_file": "file-92c3d4e5f60718293a4b5c6d7e8f90",
                "weight": 0.5,
            }
        ],
        "sampling": "annealed",
    },
)
