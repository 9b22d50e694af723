"""The shape of a tool: a function from a snapshot of a dataset to a set of changes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, TypeVar, get_args, get_origin

from aerotask.domain.access import Access
from aerotask.sdk.context import RunContext
from aerotask.sdk.dataset import DatasetView
from aerotask.sdk.dry_run import Review
from aerotask.sdk.params import ToolParams
from aerotask.sdk.plan import Plan

P = TypeVar("P", bound=ToolParams)


class Tool(ABC, Generic[P]):
    """Subclass it, name the parameters' class in the brackets, and register the class as an entry point.

    `check`, `plan` and `review` run in the API process and must be quick and open no file; `run` runs in a process
    of its own, may be killed at any moment, and may be run again.
    """

    id: ClassVar[str]
    version: ClassVar[str]
    title: ClassVar[str]
    description: ClassVar[str] = ""
    access: ClassVar[Access] = Access.READ
    artifact_suffix: ClassVar[str | None] = None
    """The suffix of the artifact that a run publishes, or None if the tool publishes none."""
    network: ClassVar[bool] = False
    """Whether runs may use the network; without it the kernel refuses them every socket."""
    folders: ClassVar[tuple[str, ...]] = ()
    """Folders of the host that runs may read and change, such as a store of models; else they reach only their inputs."""
    sees_derivatives: ClassVar[bool] = False
    """Whether `check` and `plan` want to know which derivatives the dataset has."""
    plans_on: ClassVar[frozenset[str] | None] = None
    """The properties of entries that `check`, `plan` and `review` look at, if they need no others and no geometries.

    None is for all of them. Whoever plans on whole datasets names them: others needn't be read of 100,000 entries then.
    """
    params: ClassVar[type[ToolParams]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Take the parameters' class from the subclass's own bracket."""
        super().__init_subclass__(**kwargs)
        for base in getattr(cls, "__orig_bases__", ()):
            if get_origin(base) is Tool and isinstance(get_args(base)[0], type):
                cls.params = get_args(base)[0]

    def preload(self) -> None:
        """Import what `run` needs; called once, in the process that every run is forked from.

        What is imported here costs no run any time. It must start no thread.
        """

    def unavailable_reason(self) -> str | None:
        """Why the tool can't run on this installation, or None if it can."""
        return None

    def needed_access(self, params: P) -> Access:  # noqa: ARG002  for those who override it
        """What whoever submits these parameters must be allowed to do; `access`, unless they ask for more."""
        return self.access

    def snapshot_of(self, params: P) -> tuple[str, ...]:  # noqa: ARG002  as above
        """The paths (`""` is the root) whose entries, with all below them, the run finds in `ctx.snapshot`."""
        return ()

    def check(self, params: P, dataset: DatasetView) -> None:
        """Refuse what can't work, from index metadata alone.

        Raises:
            InvalidInput: with a code and a message that says what to do.
        """

    @abstractmethod
    def plan(self, params: P, dataset: DatasetView) -> Plan:
        """Say what the run will read, change and need."""

    def review(self, params: P, dataset: DatasetView) -> Review:  # noqa: ARG002  for those who override it
        """Say what a run would do, for somebody who asks before submitting it; `check` has let the params pass.

        The platform adds what `plan` says. By default there is nothing to add.
        """
        return Review()

    @abstractmethod
    def run(self, params: P, ctx: RunContext) -> None:
        """Do the work.

        Raises:
            InvalidInput: what only the real file shows to be wrong.
            TaskFailed: the run can't go on, for a reason that a person should read; if it says
                `retryable`, the platform runs the tool again by itself after a while, a few times.
        """
