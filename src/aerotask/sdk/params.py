"""Tool parameters: a frozen pydantic model that gives both the JSON Schema and the validation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from aerotask.domain import paths


class _Names:
    """Marker of fields that name entries, so that the platform can load them."""


class _Reads(_Names):
    pass


class _Creates(_Names):
    pass


EntryPath = Annotated[str, AfterValidator(paths.entry_path), _Reads(), Field(max_length=paths.MAX_PATH_BYTES)]
"""The path of an entry that the tool reads."""

NewEntryPath = Annotated[
    str, AfterValidator(paths.entry_path), _Creates(), Field(max_length=paths.MAX_PATH_BYTES)
]
"""The path of an entry that the tool creates."""

FileName = Annotated[str, AfterValidator(paths.file_name), Field(max_length=paths.MAX_NAME_BYTES)]
"""A plain file name, without separators."""


class ToolParams(BaseModel):
    """Base class of tool parameters: closed, immutable, strict about types, camelCase in JSON."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=to_camel,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    def normalised(self) -> dict[str, Any]:
        """All parameters with their defaults filled in, as JSON values under their camelCase names."""
        return self.model_dump(mode="json", by_alias=True)

    def entry_paths(self) -> tuple[str, ...]:
        """The paths of `EntryPath` fields, in the order of the fields."""
        return tuple(dict.fromkeys(_named(self, _Reads)))

    def new_entry_paths(self) -> tuple[str, ...]:
        """The paths of `NewEntryPath` fields, in the order of the fields."""
        return tuple(dict.fromkeys(_named(self, _Creates)))


def _named(params: ToolParams, marker: type[_Names]) -> Iterator[str]:
    for name, info in type(params).model_fields.items():
        value = getattr(params, name)
        if not (_carries(info.metadata, marker) or _marks_part_of(info.annotation, marker)):
            continue
        if isinstance(value, str):
            yield value
        elif isinstance(value, tuple | list):
            yield from value


def _carries(metadata: Iterable[object], marker: type[_Names]) -> bool:
    return any(isinstance(mark, marker) for mark in metadata)


def _marks_part_of(annotation: object, marker: type[_Names]) -> bool:
    """True if a part of an annotation such as `tuple[EntryPath, ...] | None` carries the marker."""
    return any(
        _carries(getattr(part, "__metadata__", ()), marker) or _marks_part_of(part, marker)
        for part in getattr(annotation, "__args__", ())
    )
