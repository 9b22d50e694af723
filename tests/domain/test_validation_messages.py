"""Messages of validation errors, made from pydantic's descriptions of them."""

from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aerotask.domain.suggestions import message_of


class Camera(BaseModel):
    model_config = ConfigDict(extra="forbid")

    focal_length: float | None = Field(None, alias="focalLength")
    maker: Literal["dji", "parrot"] = "dji"


class Flight(BaseModel):
    model_config = ConfigDict(extra="forbid")

    pilot: str = ""
    cameras: list[Camera] | None = None


def messages(body: dict[str, Any]) -> list[str]:
    with pytest.raises(ValidationError) as refused:
        Flight.model_validate(body)
    return [message_of(detail, Flight, detail["loc"]) for detail in refused.value.errors()]


def test_an_unknown_name_is_answered_with_the_nearest_and_the_known_ones() -> None:
    assert messages({"pilots": "x"}) == ["unknown (did you mean 'pilot'?); there are pilot, cameras"]
    assert messages({"zoom": 1}) == ["unknown; there are pilot, cameras"]


def test_names_inside_a_list_are_those_of_its_members() -> None:
    body = {"cameras": [{}, {"focallength": 8.8}]}
    assert messages(body) == ["unknown (did you mean 'focalLength'?); there are focalLength, maker"]


def test_an_unknown_value_is_answered_with_the_nearest_one() -> None:
    assert messages({"cameras": [{"maker": "parot"}]}) == [
        "Input should be 'dji' or 'parrot' (did you mean 'parrot'?)"
    ]


def test_other_errors_keep_their_message() -> None:
    assert messages({"pilot": 1}) == ["Input should be a valid string"]
