"""How much may be written: by the storage limits and by the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from aerotask.archives.space_budget import SpaceBudget
from aerotask.domain.errors import TaskFailed


def refusal_of(budget: SpaceBudget, count: int) -> tuple[str, str]:
    with pytest.raises(TaskFailed) as caught:
        budget.consume(count)
    return caught.value.code, caught.value.message


def test_what_is_taken_adds_up_to_the_limit_and_no_further(tmp_path: Path) -> None:
    budget = SpaceBudget(tmp_path, 1000)
    budget.consume(600)
    budget.consume(400)
    assert refusal_of(budget, 1)[0] == "storage-quota-exceeded"


def test_what_goes_for_it_counts_too_and_without_a_limit_nothing_does(tmp_path: Path) -> None:
    budget = SpaceBudget(tmp_path, 1000, freed_bytes=500)
    budget.consume(1500)
    assert refusal_of(budget, 1)[0] == "storage-quota-exceeded"
    SpaceBudget(tmp_path, None).consume(10**9)


def test_more_than_the_disk_has_is_refused_whether_it_was_announced_or_comes(tmp_path: Path) -> None:
    with pytest.raises(TaskFailed) as caught:
        SpaceBudget(tmp_path, None).check_disk(2**60)
    assert (caught.value.code, "1152921504606.8 MB" in caught.value.message) == ("disk-full", True)
    assert refusal_of(SpaceBudget(tmp_path, None), 2**60)[0] == "disk-full"
