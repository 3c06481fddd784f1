"""Models that are adapters: they have no weights but a few matrices, and need the model that they were made from."""

from collections.abc import Iterable

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from app.model_files import adapters
from app.tables import Model, StoredFile

NAMED = 10  # most that a message names


def is_adapter(files: Iterable[StoredFile]) -> bool:
    """Whether these files of a model are an adapter's. A merged model has its adapter in a folder."""
    return any(file.path == adapters.CONFIG for file in files)


def needs(model_id: str | InstrumentedAttribute[str]) -> ColumnElement[bool]:
    """The condition that an adapter needs a model."""
    adapter = aliased(Model)
    config = (StoredFile.owner_id == adapter.id) & (StoredFile.path == adapters.CONFIG)
    return exists().where(adapter.parent == model_id, adapter.deleted_at.is_(None), config)


def on(session: Session, model_id: str) -> list[str]:
    """Ids of adapters that need a model, the oldest first, some of them if there are many."""
    config = exists().where(StoredFile.owner_id == Model.id, StoredFile.path == adapters.CONFIG)
    query = select(Model.id).where(Model.parent == model_id, Model.deleted_at.is_(None), config)
    return list(session.scalars(query.order_by(Model.seq).limit(NAMED)))
