"""The names of the SDK before 0.2 keep working for one release."""

from typing import Any

import pytest

import aerotask.sdk
import aerotask.sdk.testing
from aerotask.sdk import Access, DatasetView, DryRun, Plan, RunContext, Tool, ToolParams


class PickParams(ToolParams):
    thorough: bool = False


def old_tool() -> type[Tool[Any]]:
    """A tool as it was written before the members were renamed."""

    class Old(Tool[PickParams]):
        id, version, title = "old", "1", "Old"
        plans_on = frozenset({"format"})
        sees_derivatives = True

        def needed_access(self, params: PickParams) -> Access:
            return Access.WRITE if params.thorough else super().needed_access(params)

        def review(self, params: PickParams, dataset: DatasetView) -> DryRun:
            return aerotask.sdk.Review(warnings=("slow",) if params.thorough else ())

        def plan(self, params: PickParams, dataset: DatasetView) -> Plan:
            return Plan(estimated_output_bytes=0)

        def run(self, params: PickParams, ctx: RunContext) -> None:
            ctx.log("ran")

    return Old


def test_a_tool_with_the_old_members_works_with_a_deprecation_warning() -> None:
    with pytest.warns(DeprecationWarning, match="since aerotask 0.2") as warned:
        tool = old_tool()()
    assert sorted(str(warning.message).split(" is ")[0] for warning in warned) == [
        "Old.needed_access",
        "Old.plans_on",
        "Old.review",
        "Old.sees_derivatives",
    ]
    assert all(warning.filename == __file__ for warning in warned)
    view = DatasetView("field", {})
    assert (tool.plan_properties, tool.uses_derivatives) == (frozenset({"format"}), True)
    assert tool.required_access(PickParams()) is Access.READ
    assert tool.required_access(PickParams(thorough=True)) is Access.WRITE
    assert tool.dry_run(PickParams(thorough=True), view).warnings == ("slow",)


def test_a_mixin_that_is_no_tool_may_have_old_members() -> None:
    class Slow:
        sees_derivatives = True

        def review(self, params: PickParams, dataset: DatasetView) -> DryRun:
            return DryRun(warnings=("slow",))

    with pytest.warns(DeprecationWarning, match="since aerotask 0.2"):

        class Mixed(Slow, Tool[PickParams]):
            id, version, title = "mixed", "1", "Mixed"

            def plan(self, params: PickParams, dataset: DatasetView) -> Plan:
                return Plan(estimated_output_bytes=0)

            def run(self, params: PickParams, ctx: RunContext) -> None:
                ctx.log("ran")

    class Further(Mixed):
        """Inherits members that go by both names, without another warning."""

    assert Further.uses_derivatives
    assert Further().dry_run(PickParams(), DatasetView("field", {})).warnings == ("slow",)


def test_a_tool_with_the_new_members_can_be_used_by_the_old_names() -> None:
    class New(Tool[PickParams]):
        id, version, title = "new", "1", "New"
        uses_derivatives = True

        def required_access(self, params: PickParams) -> Access:
            return Access.DELETE

        def plan(self, params: PickParams, dataset: DatasetView) -> Plan:
            return Plan(estimated_output_bytes=0)

        def run(self, params: PickParams, ctx: RunContext) -> None:
            ctx.log("ran")

    tool = New()
    assert (tool.sees_derivatives, tool.plans_on) == (True, None)
    assert tool.needed_access(PickParams()) is Access.DELETE
    assert tool.review(PickParams(), DatasetView("field", {})) == DryRun()


def test_the_old_classes_are_the_new_ones() -> None:
    assert aerotask.sdk.Review is aerotask.sdk.DryRun
    assert aerotask.sdk.testing.ToolBench is aerotask.sdk.testing.ToolHarness
    assert aerotask.sdk.testing.Outcome is aerotask.sdk.testing.ToolOutcome
