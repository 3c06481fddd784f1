"""What all tables share: types, constraint names, ids, and columns that many have."""

import secrets
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Identity, MetaData, Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Json = dict[str, Any]


class Base(DeclarativeBase):
    """Types and constraint names shared by all tables."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy reads this class attribute)
        str: Text,
        int: BigInteger,
        datetime: DateTime(timezone=True),
        Json: JSONB(none_as_null=True),
        list[str]: JSONB(none_as_null=True),
    }


def new_id(prefix: str) -> str:
    """A random id such as `file-3f0c…`: 120 bits, so that nobody guesses one."""
    return f"{prefix}-{secrets.token_hex(15)}"


def created() -> Mapped[datetime]:
    """A column with the time of insertion."""
    return mapped_column(server_default=func.now())


def sequence() -> Mapped[int]:
    """A column that orders rows by insertion, for cursor pages."""
    return mapped_column(Identity(always=True), unique=True)
