"""Space budget: storage limits and free disk space."""

from __future__ import annotations

from pathlib import Path

import pytest

from aerotask.archives.space_budget import SpaceBudget
from aerotask.domain.errors import TaskFailed


def rejection_of(budget: SpaceBudget, count: int) -> tuple[str, str]:
    with pytest.raises(TaskFailed) as caught:
        budget.consume(count)
    return caught.value.code, caught.value.message


def test_written_bytes_add_up_to_the_limit_and_no_further(tmp_path: Path) -> None:
    budget = SpaceBudget(tmp_path, 1000)
    budget.consume(600)
    budget.consume(400)
    assert rejection_of(budget, 1)[0] == "storage-quota-exceeded"


def test_freed_bytes_extend_the_limit_and_none_is_unlimited(tmp_path: Path) -> None:
    budget = SpaceBudget(tmp_path, 1000, freed_bytes=500)
    budget.consume(1500)
    assert rejection_of(budget, 1)[0] == "storage-quota-exceeded"
    SpaceBudget(tmp_path, None).consume(10**9)


def test_more_than_the_free_disk_space_is_rejected_announced_or_written(tmp_path: Path) -> None:
    with pytest.raises(TaskFailed) as caught:
        SpaceBudget(tmp_path, None).check_disk(2**60)
    assert (caught.value.code, "1152921504606.8 MB" in caught.value.message) == ("disk-full", True)
    assert rejection_of(SpaceBudget(tmp_path, None), 2**60)[0] == "disk-full"
