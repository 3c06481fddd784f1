"""The catalogue: what can be trained, and how."""

from functools import cache
from typing import Any, Literal

from pydantic import Field

from app.api.schemas.base import ResponseModel
from app.catalog.hyperparameters import Hyperparameters
from app.catalog.methods import DEFAULT_METHOD, METHODS, composes_with
from app.catalog.preprocessing import Preprocessing, operations
from app.catalog.task_spec import TaskSpec, Variant
from app.catalog.tasks import DEFAULT_TASK, TASKS


class CatalogField(ResponseModel):
    """A field of a task's records, and the column names that are recognised as it."""

    name: str
    type: str
    description: str
    aliases: list[str]
    optional: bool
    target: bool


class CatalogVariant(ResponseModel):
    """One form of a task: what its records hold, what it is measured by, and some records."""

    name: str
    title: str
    fields: list[CatalogField]
    metrics: list[str]
    selection_metric: str
    lower_is_better: bool
    preprocessing: list[str] = Field(description="The operations on texts that its records can take.")
    example: list[dict[str, Any]]


class CatalogTask(ResponseModel):
    """A task: `options` is the JSON schema of a job's `task`.

    The option `variant_option` names the variant; left out, it is told from the training file. Fields, metrics and
    example are those of the first variant.
    """

    name: str
    title: str
    fields: list[CatalogField]
    options: dict[str, Any]
    metrics: list[str]
    selection_metric: str
    model_types: list[str]
    example: list[dict[str, Any]]
    variant_option: str | None
    variants: list[CatalogVariant]


class CatalogMethod(ResponseModel):
    """A method of adaptation: `options` is the JSON schema of its entry in a job's `adaptation`."""

    name: str
    title: str
    options: dict[str, Any]
    tasks: list[str]
    composes_with: list[str]
    needs_target_files: bool = Field(description="Whether the job must have `target_files`.")
    example: dict[str, Any]


class Catalog(ResponseModel):
    """Everything a job may ask for. `preprocessing` and `hyperparameters` are JSON schemas with their defaults."""

    object: Literal["catalog"] = "catalog"
    default_task: str
    default_method: str
    tasks: list[CatalogTask]
    methods: list[CatalogMethod]
    hyperparameters: dict[str, Any]
    preprocessing: dict[str, Any]


def _variant(variant: Variant) -> CatalogVariant:
    return CatalogVariant(
        name=variant.name,
        title=variant.title,
        fields=[
            CatalogField(
                name=field.name,
                type=field.type,
                description=field.description,
                aliases=list(field.aliases),
                optional=field.optional,
                target=field.target,
            )
            for field in variant.fields
        ],
        metrics=list(variant.metrics),
        selection_metric=variant.selection_metric,
        lower_is_better=variant.lower_is_better,
        preprocessing=list(operations(variant)),
        example=list(variant.example),
    )


def _task(spec: TaskSpec) -> CatalogTask:
    variants = [_variant(variant) for variant in spec.variants]
    first = variants[0]
    return CatalogTask(
        name=spec.name,
        title=spec.title,
        fields=first.fields,
        options=spec.options.model_json_schema(),
        metrics=first.metrics,
        selection_metric=first.selection_metric,
        model_types=sorted(spec.model_types),
        example=first.example,
        variant_option=spec.variant_option,
        variants=variants,
    )


@cache
def catalog() -> Catalog:
    """The catalogue as an object."""
    return Catalog(
        default_task=DEFAULT_TASK,
        default_method=DEFAULT_METHOD,
        tasks=[_task(spec) for spec in TASKS.values()],
        methods=[
            CatalogMethod(
                name=spec.name,
                title=spec.title,
                options=spec.options.model_json_schema(),
                tasks=[task for task in TASKS if spec.serves(task)],
                composes_with=composes_with(spec),
                needs_target_files=spec.needs_target,
                example=dict(spec.example),
            )
            for spec in METHODS.values()
        ],
        hyperparameters=Hyperparameters.model_json_schema(),
        preprocessing=Preprocessing.model_json_schema(),
    )
