"""The catalogue: what can be trained, and how."""

from functools import cache
from typing import Any, Literal

from app.api.schemas.base import ResponseModel
from app.catalog.hyperparameters import Hyperparameters
from app.catalog.methods import ALL_TASKS, DEFAULT_METHOD, METHODS
from app.catalog.tasks import DEFAULT_TASK, TASKS


class CatalogField(ResponseModel):
    """A field of a task's records, and the column names that are recognised as it."""

    name: str
    type: str
    description: str
    aliases: list[str]


class CatalogTask(ResponseModel):
    """A task: `options` is the JSON schema of a job's `task`, `example` some records."""

    name: str
    title: str
    fields: list[CatalogField]
    options: dict[str, Any]
    metrics: list[str]
    selection_metric: str
    model_types: list[str]
    example: list[dict[str, Any]]


class CatalogMethod(ResponseModel):
    """A method of adaptation: `options` is the JSON schema of its entry in a job's `adaptation`."""

    name: str
    title: str
    options: dict[str, Any]
    tasks: list[str]
    composes_with: list[str]


class Catalog(ResponseModel):
    """Everything a job may ask for."""

    object: Literal["catalog"] = "catalog"
    default_task: str
    default_method: str
    tasks: list[CatalogTask]
    methods: list[CatalogMethod]
    hyperparameters: dict[str, Any]


@cache
def catalog() -> Catalog:
    """The catalogue as an object."""
    return Catalog(
        default_task=DEFAULT_TASK,
        default_method=DEFAULT_METHOD,
        tasks=[
            CatalogTask(
                name=spec.name,
                title=spec.title,
                fields=[
                    CatalogField(
                        name=field.name, type=field.type, description=field.description, aliases=list(field.aliases)
                    )
                    for field in spec.fields
                ],
                options=spec.options.model_json_schema(),
                metrics=list(spec.metrics),
                selection_metric=spec.selection_metric,
                model_types=sorted(spec.model_types),
                example=list(spec.example),
            )
            for spec in TASKS.values()
        ],
        methods=[
            CatalogMethod(
                name=spec.name,
                title=spec.title,
                options=spec.options.model_json_schema(),
                tasks=list(TASKS) if ALL_TASKS in spec.tasks else list(spec.tasks),
                composes_with=list(spec.composes_with),
            )
            for spec in METHODS.values()
        ],
        hyperparameters=Hyperparameters.model_json_schema(),
    )
