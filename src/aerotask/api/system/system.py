"""System routes: all tasks, features, health, readiness and metrics."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import SecretStr

from aerotask import __version__
from aerotask.api.deps import BEARER, CallerDep, PlatformDep, Skip, Take, UserRef, owner_filter
from aerotask.api.http import tus
from aerotask.api.http.errors import RETRY_AFTER_S, problems
from aerotask.api.http.strict_json import StrictRoute
from aerotask.api.system.schemas import (
    FeatureDerivative,
    FeaturesResponse,
    FeatureTool,
    HealthResponse,
    ReadyResponse,
    StateResponse,
    SupervisionResponse,
)
from aerotask.api.tasks.schemas import SystemTasksResponse
from aerotask.derivatives.kinds import KIND_INFO, missing_for
from aerotask.domain.errors import Unauthenticated
from aerotask.domain.states import TRANSITIONS, TaskState
from aerotask.representations.task_status import system_task_response
from aerotask.services.system.metrics import exposition
from aerotask.services.system.readiness import readiness
from aerotask.services.system.supervision import read_supervision
from aerotask.store.tasks.tasks import TaskFilter
from aerotask.wiring import Platform

router = APIRouter(tags=["system"], route_class=StrictRoute)


@router.get("/sys/tasks", responses=problems(400, 401, 403))
async def list_all_tasks(
    caller: CallerDep,
    platform: PlatformDep,
    tool_id: Annotated[str | None, Query(alias="toolId")] = None,
    state: TaskState | None = None,
    user_id: UserRef = None,
    org_slug: Annotated[str | None, Query(alias="orgSlug")] = None,
    skip: Skip = 0,
    take: Take = 50,
) -> SystemTasksResponse:
    """List all tasks of the system, newest first; for administrators."""
    task_filter = TaskFilter(tool_id=tool_id, state=state, org_slug=org_slug, **owner_filter(user_id))
    page = await platform.tasks.list_all(caller, task_filter, skip=skip, take=take)
    return SystemTasksResponse.model_construct(
        items=[system_task_response(row) for row in page.items],
        total=page.total,
        skip=skip,
        take=page.take,
    )


@router.get("/sys/features")
async def features(platform: PlatformDep) -> FeaturesResponse:
    """Get the features and limits of this installation; no login needed."""
    return FeaturesResponse(
        version=__version__,
        versions={"aerotask": __version__, "tus": tus.VERSION},
        task_states=[
            StateResponse(value=state, terminal=state.terminal, next=sorted(targets))
            for state, targets in TRANSITIONS.items()
        ],
        task_tools=[
            FeatureTool(
                id=tool.id,
                version=tool.version,
                title=tool.title,
                available=tool.unavailable_reason() is None,
                unavailable_reason=tool.unavailable_reason(),
            )
            for tool in platform.registry.all()
        ],
        derivatives=[
            FeatureDerivative(
                kind=kind,
                title=info.title,
                media_type=info.media_type,
                available=missing_for(kind) is None,
                unavailable_reason=missing_for(kind),
            )
            for kind, info in KIND_INFO.items()
        ],
        limits=_limits(platform),
    )


@router.get("/healthz")
async def healthz() -> HealthResponse:
    """Check that the API process is alive."""
    return HealthResponse(status="ok")


@router.get("/readyz", responses={503: {"model": ReadyResponse, "description": "A part is not ready."}})
async def readyz(platform: PlatformDep, response: Response) -> ReadyResponse:
    """Check Postgres, Redis, storage and workers: whether tasks can be accepted and run.

    `supervisor` has the restarts of a stack that `aerotask up` runs; otherwise it is null.
    """
    ready = await readiness(platform.db, platform.dispatcher, platform.submit.disk)
    if not ready.ready:
        response.status_code = 503
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return ReadyResponse(
        ready=ready.ready,
        postgres=ready.postgres,
        redis=ready.redis,
        storage=ready.storage,
        sweep=ready.sweep,
        workers=ready.workers,
        supervisor=await asyncio.to_thread(_supervision, platform.settings.supervision_file),
    )


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses=problems(401)
    | {200: {"description": "Metrics in Prometheus text format.", "content": {"text/plain": {}}}},
)
async def metrics(
    platform: PlatformDep,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)],
) -> Response:
    """Get Prometheus metrics: queue depth, live workers and this process, without any names.

    Where the installation has a metrics token, it is required as bearer token.
    """
    _raise_unless_scraper(platform.settings.metrics_token, credentials)
    ready = await readiness(platform.db, platform.dispatcher, platform.submit.disk)
    return Response(await exposition(platform.db, ready), media_type=CONTENT_TYPE_LATEST)


def _raise_unless_scraper(token: SecretStr | None, credentials: HTTPAuthorizationCredentials | None) -> None:
    if token is None:
        return
    given = credentials.credentials if credentials else ""
    if not secrets.compare_digest(given.encode(), token.get_secret_value().encode()):
        raise Unauthenticated(
            "The metrics need the bearer token of AEROTASK_METRICS_TOKEN.", code="metrics-token-required"
        )


def _supervision(file: Path | None) -> SupervisionResponse | None:
    found = read_supervision(file)
    if found is None:
        return None
    return SupervisionResponse(restarts=found.restarts, restarting=list(found.restarting))


def _limits(platform: Platform) -> dict[str, int | None]:
    settings = platform.settings
    return {
        "maxBodyBytes": settings.http.max_body_bytes,
        "maxUrlBytes": settings.http.max_url_bytes,
        "maxObjectBytes": settings.uploads.max_object_bytes,
        "maxOpenUploadsPerUser": settings.uploads.open_per_user,
        "maxOrgsPerUser": settings.max_orgs_per_user,
        "uploadTtlHours": settings.uploads.ttl_hours,
        "maxOutputBytes": settings.quotas.output_bytes,
        "maxActiveTasks": settings.quotas.active,
        "maxActiveTasksPerOrg": settings.quotas.active_per_org,
        "maxActiveTasksPerUser": settings.quotas.active_per_user,
        "maxActiveTasksAnonymous": settings.quotas.active_anonymous,
        "maxScheduledTasksPerUser": settings.quotas.scheduled_per_user,
        "maxActiveBulkDownloadsPerUser": settings.quotas.bulk_downloads_per_user,
        "maxRunningTasksPerUser": settings.queue.running_per_user,
        "maxArtifactBytesPerOrgDay": settings.quotas.artifact_bytes_per_org_day,
        "maxStorageBytesPerOrg": settings.storage.bytes_per_org,
        "maxStorageBytesPerUser": settings.storage.bytes_per_user,
        "archiveMaxBytes": settings.archives.archive_bytes,
        "archiveMaxExtractedBytes": settings.archives.extracted_bytes,
        "archiveMaxEntries": settings.archives.extracted_entries,
        "archiveMaxRatio": settings.archives.extraction_ratio,
        "archiveMaxDepth": settings.archives.archive_depth,
        "bulkDownloadAsyncThresholdBytes": settings.bulk_download_async_threshold_bytes,
        "artifactTtlHours": settings.retention.artifact_ttl_hours,
        "dedupLookbackHours": settings.retention.dedup_lookback_hours,
    }
