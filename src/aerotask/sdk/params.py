"""The parameters of a tool: a frozen pydantic model, from which the JSON Schema and the checks both come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from aerotask.domain import paths


class _Names:
    """Marks a field as naming entries, so that the platform can fetch them without the tool's help."""


class _Reads(_Names):
    pass


class _Creates(_Names):
    pass


EntryPath = Annotated[str, AfterValidator(paths.entry_path), _Reads(), Field(max_length=paths.MAX_PATH_BYTES)]
"""The path of an entry that the tool reads."""

NewEntryPath = Annotated[
    str, AfterValidator(paths.entry_path), _Creates(), Field(max_length=paths.MAX_PATH_BYTES)
]
"""A path where the tool puts an entry."""

FileName = Annotated[str, AfterValidator(paths.file_name), Field(max_length=paths.MAX_NAME_BYTES)]
"""A plain file name, without separators."""


class ToolParams(BaseModel):
    """Base of every tool's parameters: closed, immutable, strict about types, camelCase outside."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=to_camel,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    def normalised(self) -> dict[str, Any]:
        """Every parameter with its default filled in, as JSON values under their outside names."""
        return self.model_dump(mode="json", by_alias=True)

    def entry_paths(self) -> tuple[str, ...]:
        """The entries that the parameters name for reading, in the order of the fields."""
        return tuple(dict.fromkeys(_named(self, _Reads)))

    def new_entry_paths(self) -> tuple[str, ...]:
        """The paths at which the parameters ask for an entry to be put."""
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
    """Whether a part of an annotation such as `tuple[EntryPath, ...] | None` carries the mark."""
    return any(
        _carries(getattr(part, "__metadata__", ()), marker) or _marks_part_of(part, marker)
        for part in getattr(annotation, "__args__", ())
    )
