"""The catalogue entry of meta-learning: a start from which a task is learned from few examples."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, StrictFloat, StrictInt

from app.catalog.adaptation.spec import TASKS_WITH_TARGETS, FileId, MethodOptions, MethodSpec, NeededFile

NAME = "meta_learning"


class MetaLearningOptions(MethodOptions):
    """`adaptation.meta_learning` of a job."""

    files: list[FileId] = Field(
        min_length=2,
        max_length=100,
        description="Labelled files of the same task, one for each source: other domains, shops, years. Their labels "
        "must be among those of the training file.",
    )
    rounds: Annotated[StrictInt, Field(ge=1, le=1_000_000)] = Field(
        default=100, description="Rounds, each on one source, drawn at random."
    )
    inner_steps: Annotated[StrictInt, Field(ge=1, le=1000)] = Field(
        default=5, description="Optimizer steps in a round."
    )
    step_size: Annotated[StrictFloat, Field(gt=0, le=1)] = Field(
        default=0.5,
        description="How far the start moves towards where a round ended; falls to 0 over the rounds, linearly.",
    )


def _files(options: MetaLearningOptions, task: Mapping[str, Any]) -> tuple[NeededFile, ...]:
    return tuple(NeededFile(f"{NAME}.files.{place}", file_id, task) for place, file_id in enumerate(options.files))


META_LEARNING = MethodSpec(
    name=NAME,
    title="Meta-learning: a stage on several labelled sources that finds a start for learning from few examples "
    "(Reptile, Nichol et al. 2018)",
    options=MetaLearningOptions,
    tasks=TASKS_WITH_TARGETS,
    impl="worker.methods.meta_learning:MetaLearning",
    example={"files": ["file-1a", "file-2b"], "rounds": 100, "inner_steps": 5},
    files=_files,
)
