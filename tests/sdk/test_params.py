import pytest
from jsonschema import Draft202012Validator
from pydantic import Field, ValidationError

from aerotask.sdk import EntryPath, FileName, NewEntryPath, ToolParams


class SampleParams(ToolParams):
    path: EntryPath
    other_paths: tuple[EntryPath, ...] = ()
    output_path: NewEntryPath | None = None
    file_name: FileName | None = None
    sigma: float = Field(1.0, gt=0)
    rounds: int = 3


def parse(text: str) -> SampleParams:
    return SampleParams.model_validate_json(text)


def test_names_are_camel_case_outside_and_defaults_are_filled_in() -> None:
    assert parse('{"path": "a.tif", "fileName": "x.tif"}').normalised() == {
        "path": "a.tif",
        "otherPaths": [],
        "outputPath": None,
        "fileName": "x.tif",
        "sigma": 1.0,
        "rounds": 3,
    }


@pytest.mark.parametrize(
    "text",
    [
        '{"path": "a.tif", "unknown": 1}',
        '{"path": "a.tif", "other_paths": []}',
        '{"path": "a.tif", "rounds": "3"}',
        '{"path": "a.tif", "rounds": 3.5}',
        '{"path": "a.tif", "sigma": NaN}',
        '{"path": "a.tif", "sigma": 0}',
        '{"path": "../a.tif"}',
        '{"path": "a.tif", "fileName": "a/b"}',
        "{}",
        "[]",
    ],
)
def test_what_does_not_fit_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        parse(text)


def test_the_platform_learns_which_entries_are_named() -> None:
    params = parse('{"path": "a.tif", "otherPaths": ["b.tif", "a.tif"], "outputPath": "c.tif"}')
    assert params.entry_paths() == ("a.tif", "b.tif")
    assert params.new_entry_paths() == ("c.tif",)


def test_params_do_not_change() -> None:
    with pytest.raises(ValidationError):
        parse('{"path": "a.tif"}').rounds = 4  # type: ignore[misc]


def test_the_schema_is_valid_and_closed() -> None:
    schema = SampleParams.model_json_schema(by_alias=True)
    Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["path"]
