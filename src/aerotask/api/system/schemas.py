"""Answers about the installation itself."""

from __future__ import annotations

from aerotask.domain.states import TaskState
from aerotask.representations.base import Answer


class StateAnswer(Answer):
    """A state of the table of transitions."""

    value: TaskState
    terminal: bool
    next: list[TaskState]


class FeatureTool(Answer):
    """A tool in brief."""

    id: str
    version: str
    title: str
    available: bool
    unavailable_reason: str | None


class FeatureDerivative(Answer):
    """A kind of derivative that the tool `build` makes."""

    kind: str
    title: str
    media_type: str
    available: bool
    unavailable_reason: str | None


class FeaturesAnswer(Answer):
    """What this installation can do."""

    version: str
    versions: dict[str, str]
    task_states: list[StateAnswer]
    task_tools: list[FeatureTool]
    derivatives: list[FeatureDerivative]
    limits: dict[str, int | None]


class HealthAnswer(Answer):
    """The process is up."""

    status: str


class ReadyAnswer(Answer):
    """Whether work can be taken and done, and the state of each part."""

    ready: bool
    postgres: str
    redis: str
    storage: str
    workers: int
