"""`/v1/catalog`."""

from fastapi import APIRouter

from app.api.deps import AccessDep
from app.api.schemas import catalog
from app.api.schemas.base import errors
from app.api.schemas.catalog import Catalog

router = APIRouter(prefix="/v1/catalog", tags=["Catalogue"])


@router.get("", responses=errors(), summary="List tasks, methods and hyperparameters")
def retrieve_catalog(access: AccessDep) -> Catalog:
    """Everything a job may ask for, with JSON schemas, defaults and examples."""
    access.authenticate()
    return catalog.catalog()
