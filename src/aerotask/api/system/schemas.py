"""Answers about the installation itself."""

from __future__ import annotations

from aerotask.domain.states import TaskState
from aerotask.representations.base import ApiModel


class StateResponse(ApiModel):
    """A state of the table of transitions."""

    value: TaskState
    terminal: bool
    next: list[TaskState]


class FeatureTool(ApiModel):
    """A tool in brief."""

    id: str
    version: str
    title: str
    available: bool
    unavailable_reason: str | None


class FeatureDerivative(ApiModel):
    """A kind of derivative that the tool `build` makes."""

    kind: str
    title: str
    media_type: str
    available: bool
    unavailable_reason: str | None


class FeaturesResponse(ApiModel):
    """What this installation can do."""

    version: str
    versions: dict[str, str]
    task_states: list[StateResponse]
    task_tools: list[FeatureTool]
    derivatives: list[FeatureDerivative]
    limits: dict[str, int | None]


class HealthResponse(ApiModel):
    """The process is up."""

    status: str


class ReadyResponse(ApiModel):
    """Whether work can be taken and done, and the state of each part."""

    ready: bool
    postgres: str
    redis: str
    storage: str
    workers: int
