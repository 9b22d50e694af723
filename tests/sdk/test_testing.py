"""The harness enforces the plan as a worker does."""

from pathlib import Path

import pytest

from aerotask.domain.access import Access
from aerotask.domain.errors import TaskFailed
from aerotask.sdk import DatasetView, Plan, RunContext, Tool, ToolParams
from aerotask.sdk.changes import DescribeEntry
from aerotask.sdk.testing import ToolHarness


class WhereParams(ToolParams):
    how: str


class Careless(Tool[WhereParams]):
    """Plans to write below `planned`, and changes other paths on request."""

    id, version, title = "careless", "1", "Careless"
    params = WhereParams
    access = Access.WRITE

    def plan(self, params: WhereParams, dataset: DatasetView) -> Plan:
        return Plan(estimated_output_bytes=0, reads=("in.txt",), writes=("planned",))

    def run(self, params: WhereParams, ctx: RunContext) -> None:
        file = ctx.workdir / "file"
        file.write_bytes(b"x")
        if params.how == "put":
            ctx.put_entry(file, at="planned-not/x")
        elif params.how == "folder":
            ctx.put_folder(at="other")
        elif params.how == "remove":
            ctx.remove_entry("in.txt")
        elif params.how == "describe":
            ctx.describe_entry(DescribeEntry("in.txt", "0" * 64, "generic", {}))
        else:
            ctx.put_entry(file, at="planned/x")


@pytest.fixture
def harness(tmp_path: Path) -> ToolHarness:
    for folder in ("dataset", "work"):
        (tmp_path / folder).mkdir()
    (tmp_path / "dataset" / "in.txt").write_bytes(b"in")
    return ToolHarness(tmp_path / "dataset", tmp_path / "work")


@pytest.mark.parametrize("how", ["put", "folder", "remove", "describe"])
def test_a_change_outside_of_the_plan_fails_the_run(harness: ToolHarness, how: str) -> None:
    with pytest.raises(TaskFailed, match="plan doesn't name") as refused:
        harness.run(Careless(), {"how": how})
    assert refused.value.code == "bad-output"


def test_a_change_within_the_plan_is_fine(harness: ToolHarness) -> None:
    assert [edit.at for edit in harness.run(Careless(), {"how": "well"}).changes.edits] == ["planned/x"]
