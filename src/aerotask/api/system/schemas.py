"""Response schemas for features, health and readiness."""

from __future__ import annotations

from aerotask.domain.states import TaskState
from aerotask.representations.base import ApiModel


class StateResponse(ApiModel):
    """Task state, with the states that may follow."""

    value: TaskState
    terminal: bool
    next: list[TaskState]


class FeatureTool(ApiModel):
    """Tool summary."""

    id: str
    version: str
    title: str
    available: bool
    unavailable_reason: str | None


class FeatureDerivative(ApiModel):
    """Derivative kind of the tool `build`."""

    kind: str
    title: str
    media_type: str
    available: bool
    unavailable_reason: str | None


class FeaturesResponse(ApiModel):
    """Features and limits of this installation."""

    version: str
    versions: dict[str, str]
    task_states: list[StateResponse]
    task_tools: list[FeatureTool]
    derivatives: list[FeatureDerivative]
    limits: dict[str, int | None]


class HealthResponse(ApiModel):
    """Liveness of the API process."""

    status: str


class SupervisionResponse(ApiModel):
    """Restarts of processes since the start of the stack, and the processes that are down and will be restarted."""

    restarts: int
    restarting: list[str]


class ReadyResponse(ApiModel):
    """Readiness of the installation and of each of its parts."""

    ready: bool
    postgres: str
    redis: str
    storage: str
    """`ok`, `full` (nothing can be stored until files are deleted; `ready` stays true), `missing…` with what to do, `mismatch` or `unreachable`."""
    sweep: str
    """`ok`, or `needs-confirmation` while so many unnamed files would be removed that an operator has to confirm it."""
    workers: int
    supervisor: SupervisionResponse | None
