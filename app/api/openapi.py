"""The OpenAPI document, with two habits of FastAPI undone: its own form of errors, and examples without their nulls."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI

from app.api.schemas.base import ResponseModel

FOREIGN = ("HTTPValidationError", "ValidationError")


def install(app: FastAPI) -> None:
    """Make `app.openapi()` answer the corrected document; it is made once."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            _restore_examples(document["components"]["schemas"])
            _remove_foreign_errors(document)
        return generate()

    app.openapi = openapi


def _restore_examples(schemas: dict[str, Any]) -> None:
    """FastAPI writes the document without nulls, and so leaves fields out of examples that our answers always have."""
    for model in _subclasses(ResponseModel):
        extra = model.model_config.get("json_schema_extra")
        if isinstance(extra, dict) and model.__name__ in schemas:
            schemas[model.__name__] |= extra


def _subclasses(model: type[ResponseModel]) -> Iterator[type[ResponseModel]]:
    for subclass in model.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def _remove_foreign_errors(document: dict[str, Any]) -> None:
    """FastAPI documents a 422 of its own form wherever there is a parameter; ours are 400 and in our form."""
    for operations in (*document["paths"].values(), *document["webhooks"].values()):
        for operation in operations.values():
            responses = operation["responses"]
            if FOREIGN[0] in str(responses.get("422")):
                del responses["422"]
    for name in FOREIGN:
        document["components"]["schemas"].pop(name, None)
