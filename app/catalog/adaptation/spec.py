"""What an entry of the method catalogue says."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StringConstraints

ALL_TASKS = "*"
# Those that learn something else than the texts themselves.
TASKS_WITH_TARGETS = (
    "text-classification",
    "token-classification",
    "question-answering",
    "translation",
    "summarization",
)
CONTROL = (
    "Train a second model with the same budget and without this method, and report whether the method helped. Takes as "
    "long again."
)
# Ids in options; what they stand for is named by an entry's `files` and `models` and looked up from there.
FileId = Annotated[str, StringConstraints(pattern=r"^file-[0-9a-f]{1,64}$")]
ModelId = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class MethodOptions(BaseModel):
    """Options of a method: unknown names and numbers that are none are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    control: StrictBool = Field(default=False, description=CONTROL)


@dataclass(frozen=True)
class NeededFile:
    """A file that a method reads beside the job's own three.

    `key` is where the options name it, `method.option` or `method.option.0`; errors call it `adaptation.<key>`. It is
    read as records of `task`, with `columns` mapped; without any, with those it was uploaded with. A `task` without a
    `type` is not known yet: such a file is asked for once it is.
    """

    key: str
    file_id: str
    task: Mapping[str, Any]
    columns: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class NeededModel:
    """A model that a method uses beside the one it adapts; it has to be fine-tuned for, or fit, `task`."""

    key: str
    model_id: str
    task: str


@dataclass(frozen=True)
class JobFacts:
    """What is known of a job when it is created: its base model's type and its task, if they are, and its number of
    target files.
    """

    model_type: str | None
    target_files: int
    task: str | None = None


def no_files(options: Any, task: Mapping[str, Any]) -> tuple[NeededFile, ...]:
    """What a method without files needs."""
    return ()


def no_models(options: Any) -> tuple[NeededModel, ...]:
    """What a method without models needs."""
    return ()


def no_columns(options: Any) -> tuple[str, ...]:
    """What a method that reads no further column keeps."""
    return ()


def no_conflicts(options: Any) -> Mapping[str, str]:
    """What a method whose options change nothing about that does not go together with."""
    return {}


def no_misfit(options: Any, facts: JobFacts) -> str | None:
    """What a method that any job can have says against a job."""
    return None


@dataclass(frozen=True)
class MethodSpec:
    """A method: its options and the tasks it serves, for a method of few `why_tasks` says why; `impl` names its class.

    `conflicts` are the methods that it makes no sense together with, and why; one side names a pair. `conflicts_of` are
    further ones that some options have. `example` are options that a job could give. `files` and `models` tell from
    options, and the job's task, what else is to be fetched, the same keys whatever the task; of the task, what is told
    from the training file is missing at first, `type` included. `extras` are columns of the training file that it reads
    besides the task's fields: they are kept as `records.extra(column)`. `needs_target`: it makes no sense without the
    job's `target_files`. `misfit` says why a job cannot have the method with these options, and what to change, in
    words that can follow "adaptation.<name> "; None if it can.
    """

    name: str
    title: str
    options: type[MethodOptions]
    impl: str
    tasks: tuple[str, ...] = (ALL_TASKS,)
    why_tasks: str = ""
    conflicts: Mapping[str, str] = field(default_factory=dict[str, str])
    conflicts_of: Callable[[Any], Mapping[str, str]] = no_conflicts
    example: Mapping[str, Any] = field(default_factory=dict[str, Any])
    files: Callable[[Any, Mapping[str, Any]], tuple[NeededFile, ...]] = no_files
    models: Callable[[Any], tuple[NeededModel, ...]] = no_models
    extras: Callable[[Any], tuple[str, ...]] = no_columns
    needs_target: bool = False
    misfit: Callable[[Any, JobFacts], str | None] = no_misfit

    def serves(self, task: str) -> bool:
        """Whether jobs of this task can ask for it."""
        return ALL_TASKS in self.tasks or task in self.tasks

    def refusal(self, task: str) -> str | None:
        """Why jobs of this task cannot ask for it; None where they can."""
        if self.serves(task):
            return None
        why = f": {self.why_tasks}" if self.why_tasks else ""
        return f"{self.name} is not for {task}{why}. It is for {', '.join(self.tasks)}."
