"""Suggestions for misspelled names, and messages of validation errors that make them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel

_LONGEST_COMPARED = 64
# From here on, names are alike (difflib's ratio): `tool` and `toolId` have 0.8, `limit` and `since` 0.2.
_LIKENESS = 0.7
_QUOTED = re.compile(r"'([^']*)'")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like a misspelled one, without regard to case, `_` and `-`; None if none is like it."""
    by_letters = {_letters(each): each for each in known}
    found = get_close_matches(_letters(name[:_LONGEST_COMPARED]), by_letters, n=1, cutoff=_LIKENESS)
    return by_letters[found[0]] if found else None


def hint(name: str, known: Iterable[str]) -> str:
    """The nearest known name as a question to append to a message; empty if none is like it."""
    found = nearest(name, known)
    return f" (did you mean '{found}'?)" if found else ""


def message_of(detail: Mapping[str, Any], model: object, place: Sequence[object]) -> str:
    """The message for an error of pydantic's at that place of the model."""
    message = str(detail["msg"]).removeprefix("Value error, ")
    kind, written = detail["type"], detail.get("input")
    if kind == "extra_forbidden":
        known = _members(model, place[:-1])
        there = f"there are {', '.join(known)}" if known else "there are none"
        return f"unknown{hint(str(place[-1]), known)}; {there}"
    if kind in {"enum", "literal_error"} and isinstance(written, str):
        return message + hint(written, _QUOTED.findall(message))
    return message


def _letters(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _members(model: object, place: Sequence[object]) -> list[str]:
    """The names of the members of the object at that place, as JSON has them."""
    found = next(_models(model), None)
    for name in place:
        if isinstance(name, str) and found is not None:
            annotation = {info.alias or key: info.annotation for key, info in found.model_fields.items()}.get(
                name
            )
            found = next(_models(annotation), None)
    return [] if found is None else [info.alias or key for key, info in found.model_fields.items()]


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    """The models that an annotation names: itself, or in a list, an option or an alternative."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)
