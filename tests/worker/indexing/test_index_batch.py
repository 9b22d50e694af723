"""Time until a file that was given up is read again."""

from __future__ import annotations

import pytest

from aerotask.worker.indexing.index_batch import retry_after_s

HOUR_S = 3600


@pytest.mark.parametrize(
    ("attempt", "hours"), [(1, 1), (3, 1), (4, 2), (5, 4), (7, 16), (8, 24), (9, 24), (100_000, 24)]
)
def test_a_file_that_was_given_up_is_read_after_an_hour_then_ever_more_rarely(
    attempt: int, hours: int
) -> None:
    assert retry_after_s(attempt) == hours * HOUR_S
