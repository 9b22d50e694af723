"""Damaged values of JSON columns."""

from __future__ import annotations

from typing import Any

import pytest

from aerotask.store.json_columns import JsonColumns, is_content, is_transition

EVENT = {
    "at": "2026-11-22T18:00:00.123456Z",
    "from": None,
    "to": "Created",
    "by": "me",
    "reason": "submitted",
}


@pytest.mark.parametrize(
    "changes",
    [
        {"at": None},
        {"at": "yesterday"},
        {"at": "2026-11-22T18:00:00"},
        {"from": "Nowhere"},
        {"to": None},
        {"to": ["Created"]},
        {"by": 7},
        {"reason": None},
    ],
)
def test_an_event_of_another_form_is_no_transition(changes: dict[str, Any]) -> None:
    assert is_transition(EVENT)
    assert not is_transition({**EVENT, **changes})


def test_an_event_without_a_member_is_no_transition() -> None:
    for name in EVENT:
        assert not is_transition({key: value for key, value in EVENT.items() if key != name})


def test_a_damaged_value_is_empty_and_its_column_named() -> None:
    columns = JsonColumns()
    assert columns.mapping("a", [1]) == {}
    assert columns.mapping("b", {"x": 1}) == {"x": 1}
    assert columns.optional_mapping("c", "text") is None
    assert columns.optional_mapping("d", None) is None
    assert columns.items("e", {}, is_content) == []
    assert columns.items("f", [{"path": "a", "hash": "b"}, {"path": 1}], is_content) == [
        {"path": "a", "hash": "b"}
    ]
    assert columns.items("g", [], is_content) == []
    assert columns.damaged("things", "1") == ("a", "c", "e", "f")
