"""Base class and column types of all tables."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import (
    LargeBinary,
    MetaData,
    Text,
    TextClause,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase

from aerotask.domain.states import TaskState

# Byte order, whatever the database's locale: otherwise no index would serve prefix searches.
PathText = Text(collation="C")


def one_of(column: str, values: type[StrEnum]) -> str:
    """Check that a column's values are those of the enumeration."""
    return f"{column} IN ({', '.join(repr(str(value)) for value in values)})"


def in_states(states: frozenset[TaskState]) -> TextClause:
    """Condition on a task's state, with literals: with parameters no partial index would serve it."""
    return text(f"state IN ({', '.join(repr(str(state)) for state in sorted(states))})")


class Model(DeclarativeBase):
    """Base of the tables, with names for constraints and the column types of Python types."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: TIMESTAMP(timezone=True),
        dict[str, Any]: JSONB(none_as_null=True),
        list[Any]: JSONB,
        list[str]: ARRAY(Text),
        bytes: LargeBinary,
        str: Text,
    }
