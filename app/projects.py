"""Projects and their API keys."""

import hashlib
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.errors import AppError, not_found
from app.tables import ApiKey, Project, new_id

PREFIX_LENGTH = 11  # "tlr-" and seven characters: enough to tell keys apart in a list, useless to an attacker


@dataclass(frozen=True)
class KeyInfo:
    """What may be shown of a key."""

    id: str
    project: str
    name: str
    prefix: str
    created_at: datetime
    revoked_at: datetime | None


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def create_key(session: Session, *, project: str = "default", name: str) -> tuple[KeyInfo, str]:
    """A new key of a project, which is made where it does not exist, and the plaintext, which is never shown again."""
    session.execute(insert(Project).values(id=new_id("proj"), name=project).on_conflict_do_nothing())
    owner = session.scalars(select(Project).where(Project.name == project)).one()
    plaintext = "tlr-" + secrets.token_urlsafe(32)
    key = ApiKey(
        id=new_id("key"),
        project_id=owner.id,
        name=name,
        prefix=plaintext[:PREFIX_LENGTH],
        sha256=_digest(plaintext),
    )
    session.add(key)
    session.flush()
    return KeyInfo(key.id, project, key.name, key.prefix, key.created_at, None), plaintext


def list_keys(session: Session) -> list[KeyInfo]:
    """Every key, oldest first, revoked ones included."""
    rows = session.execute(select(ApiKey, Project.name).join(Project).order_by(ApiKey.created_at))
    return [KeyInfo(key.id, project, key.name, key.prefix, key.created_at, key.revoked_at) for key, project in rows]


def revoke_key(session: Session, key_id: str) -> KeyInfo:
    """Revoke a key by its id; a revoked one stays as it is. Raises AppError 404 for an unknown id."""
    session.execute(
        update(ApiKey).where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None)).values(revoked_at=func.now())
    )
    found = [info for info in list_keys(session) if info.id == key_id]
    if not found:
        raise not_found("key", key_id)
    return found[0]


@dataclass(frozen=True)
class Caller:
    """Who makes a request."""

    project_id: str
    project: str


def authenticate(session: Session, plaintext: str) -> Caller:
    """The project of a key. Raises AppError 401 for an unknown or a revoked key."""
    row = session.execute(
        select(ApiKey.revoked_at, Project.id, Project.name).join(Project).where(ApiKey.sha256 == _digest(plaintext))
    ).one_or_none()
    if row is None:
        raise AppError(
            401,
            "invalid_api_key",
            f"Incorrect API key provided: {plaintext[:PREFIX_LENGTH]}…; `tailor keys create` makes one.",
        )
    revoked_at, project_id, project = row
    if revoked_at is not None:
        raise AppError(401, "revoked_api_key", f"This API key was revoked at {revoked_at:%Y-%m-%d %H:%M} UTC.")
    return Caller(project_id, project)


def no_longer_valid(session: Session, plaintexts: Collection[str]) -> set[str]:
    """Those of some keys, all valid once, that `authenticate` would refuse by now."""
    by_digest = {_digest(plaintext): plaintext for plaintext in plaintexts}
    valid = session.scalars(select(ApiKey.sha256).where(ApiKey.sha256.in_(by_digest), ApiKey.revoked_at.is_(None)))
    return {by_digest[digest] for digest in by_digest.keys() - set(valid)}
