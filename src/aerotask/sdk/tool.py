"""The tool interface: a function from a snapshot of a dataset to a set of changes."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Generic, TypeVar, get_args, get_origin

from aerotask.domain.access import Access
from aerotask.sdk.context import RunContext
from aerotask.sdk.dataset import DatasetView
from aerotask.sdk.dry_run import DryRun
from aerotask.sdk.params import ToolParams
from aerotask.sdk.plan import Plan
from aerotask.sdk.quota_class import QuotaClass

P = TypeVar("P", bound=ToolParams)

RENAMED: Mapping[str, str] = MappingProxyType(
    {
        "needed_access": "required_access",
        "plans_on": "plan_properties",
        "review": "dry_run",
        "sees_derivatives": "uses_derivatives",
    }
)
"""Members of `Tool` by their old names, which keep working until the release after 0.2."""


class Tool(ABC, Generic[P]):
    """Base class of tools: name the parameters' class in the brackets and register the subclass as an entry point.

    `check`, `plan` and `dry_run` run in the API process: they must be quick and open no file. `run` and `preview` run
    in child processes that may be killed at any moment; a run may be repeated.
    """

    id: ClassVar[str]
    version: ClassVar[str]
    title: ClassVar[str]
    description: ClassVar[str] = ""
    access: ClassVar[Access] = Access.READ
    """The right on the dataset that submitting the tool requires; a tool with `READ` must plan no writes."""
    artifact_suffix: ClassVar[str | None] = None
    """The suffix of the artifact that a run publishes, or None if the tool publishes none."""
    quota_class: ClassVar[QuotaClass | None] = None
    """The quota class whose limit on a user's active tasks applies, beside the limits that apply to all tasks."""
    route_aliases: ClassVar[tuple[str, ...]] = ()
    """Former addresses: `POST {dataset}/ALIAS/validate` and `…/preview` work like those under `tools/{toolId}`."""
    network: ClassVar[bool] = False
    """Internet sockets for runs, which are confined otherwise; without it the kernel denies them every socket."""
    folders: ClassVar[tuple[str, ...]] = ()
    """Host folders that runs may read and change, such as a model store; otherwise runs reach only their inputs."""
    uses_derivatives: ClassVar[bool] = False
    """Set it to get the dataset's derivatives in `DatasetView.derived` and `RunContext.has_derivative`."""
    verifies_inputs: ClassVar[bool] = False
    """Set it if runs read their inputs whole: their hashes are compared first, and a damaged one fails the task."""
    plan_properties: ClassVar[frozenset[str] | None] = None
    """The entry properties that `check`, `plan` and `dry_run` use, if they need no others and no geometries.

    None loads all properties. Tools that plan over whole datasets should list the ones they use.
    """
    params: ClassVar[type[ToolParams]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Take the parameters' class from the subclass's brackets, and accept members under their old names."""
        super().__init_subclass__(**kwargs)
        for base in getattr(cls, "__orig_bases__", ()):
            if get_origin(base) is Tool and isinstance(get_args(base)[0], type):
                cls.params = get_args(base)[0]
        _accept_old_names(cls)

    def preload(self) -> None:
        """Import the modules that `run` needs; called once, in the process that runs are forked from.

        Imports here cost the runs no time. They must start no thread.
        """

    def unavailable_reason(self) -> str | None:
        """A reason why the tool can't run on this installation, or None if it can."""
        return None

    def required_access(self, params: P) -> Access:  # noqa: ARG002  for overriding
        """The right that submitting these parameters requires; by default `access`."""
        return self.access

    def snapshot_of(self, params: P) -> tuple[str, ...]:  # noqa: ARG002  for overriding
        """The paths (`""` is the root) whose entries, with everything below them, the run gets in `ctx.snapshot`."""
        return ()

    def check(self, params: P, dataset: DatasetView) -> None:
        """Refuse parameters that can't work, from index metadata alone.

        Raises:
            InvalidInput: with a code and a message that says what to do.
        """

    @abstractmethod
    def plan(self, params: P, dataset: DatasetView) -> Plan:
        """The files that the run will read, the paths that it will change, and the resources that it needs."""

    def dry_run(self, params: P, dataset: DatasetView) -> DryRun:  # noqa: ARG002  for overriding
        """Warnings and a summary of the run for `POST …/tools/{toolId}/validate`; called after `check` and `plan`.

        The platform adds the plan itself. By default there is nothing to add.
        """
        return DryRun()

    def preview(self, params: P, inputs: Mapping[str, Path], *, longest_px: int) -> bytes:
        """A WebP image of the result, no side longer than `longest_px`, for `POST …/tools/{toolId}/preview`.

        `inputs` are the files of the plan's `reads` by their dataset paths. A tool that doesn't override this method
        has no preview.

        Raises:
            InvalidInput: a fault that only the real files show.
        """
        raise NotImplementedError

    @abstractmethod
    def run(self, params: P, ctx: RunContext) -> None:
        """Do the work.

        Raises:
            InvalidInput: a fault that only the real file shows.
            TaskFailed: the run can't continue, for a reason that the user should read; with `retryable`, the
                platform repeats the run after a delay, a few times.
        """

    # The names of these members before 0.2.
    needed_access = required_access
    plans_on = plan_properties
    review = dry_run
    sees_derivatives = uses_derivatives


def has_preview(tool: Tool[Any]) -> bool:
    """True if the tool overrides `Tool.preview`."""
    return type(tool).preview is not Tool.preview


def _accept_old_names(cls: type[Tool[Any]]) -> None:
    """Keep each renamed member and its old name the same, whichever of the two the class or a mixin defines."""
    for old, new in RENAMED.items():
        own = next(vars(base) for base in cls.__mro__ if old in vars(base) or new in vars(base))
        if old in own and new in own and own[old] is own[new]:
            continue
        if new not in own:
            warnings.warn(
                f"{cls.__name__}.{old} is called {new} since aerotask 0.2; rename it.",
                DeprecationWarning,
                stacklevel=4,  # the class statement, above __init_subclass__ and ABCMeta.__new__
            )
        member = own[new] if new in own else own[old]
        setattr(cls, old, member)
        setattr(cls, new, member)
