"""Groups of settings, one for each subject that they are passed to; `config.Settings` fills them.

An alias is the name of the variable, without `AEROTASK_`, where the name of the group already says the rest.
Bounds hold for what the environment says, not for what code constructs.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

MIB = 1024**2
GIB = 1024**3
HOUR_S = 3600


def _check_networks(value: str) -> str:
    for part in filter(None, value.split(",")):
        ip_network(part.strip())
    return value


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Limits on requests, and the proxies and browsers that requests may come through."""

    trusted_proxies: Annotated[str, AfterValidator(_check_networks)] = ""
    """Addresses and networks, separated by commas, whose `X-Forwarded-For` and `-Proto` headers are trusted."""
    cors_origins: str = ""
    """Origins, separated by commas, whose pages may call the API from a browser; `*` for all. None by default."""
    max_url_bytes: Annotated[int, Field(ge=1024)] = 16 * 1024
    """Maximum length of a request's path with its query; 200 task ids take 9 KiB."""
    max_header_bytes: Annotated[int, Field(ge=4096)] = 32 * 1024
    """Maximum size of all headers of a request together."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = MIB
    """Maximum size of a request body other than an upload."""
    events_keepalive_s: Annotated[float, Field(gt=0)] = 15.0
    """Interval at which an event stream without events sends a keep-alive and permissions are checked again."""


@dataclass(frozen=True, slots=True)
class TokenLifetimes:
    """Lifetimes of access tokens."""

    token_ttl_s: Annotated[int, Field(ge=60)] = 12 * HOUR_S
    """Lifetime of a bearer token, in seconds."""
    session_ttl_s: Annotated[int, Field(ge=60)] = 30 * 24 * HOUR_S
    """Maximum age of a session: a token can be refreshed for so long after the login."""
    view_token_ttl_s: Annotated[int, Field(ge=60)] = HOUR_S
    """Lifetime of a token for map clients, in seconds."""


@dataclass(frozen=True, slots=True)
class LoginLimits:
    """Limits on failed logins."""

    window_s: Annotated[int, Field(ge=1, alias="sign_in_window_s")] = 300
    """Time in which failed logins are counted together."""
    per_account: Annotated[int, Field(ge=1, alias="max_failed_sign_ins_per_account")] = 10
    """Failed logins per account in that time; then logins answer 429 until it has passed."""
    per_address: Annotated[int, Field(ge=1, alias="max_failed_sign_ins_per_address")] = 100
    """Failed logins per client address in that time."""


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """The external OpenID Connect provider."""

    issuer: Annotated[str | None, Field(alias="oidc_issuer")] = None
    """OpenID Connect issuer whose tokens are accepted besides our own, spelled as in their `iss` claim."""
    audience: Annotated[str, Field(alias="oidc_audience")] = "aerotask"
    """Audience that its tokens must name."""
    provision: Annotated[bool, Field(alias="oidc_provision")] = False
    """Creates a user for a valid token of an unknown subject."""
    allow_private: Annotated[bool, Field(alias="oidc_allow_private")] = False
    """Allows an issuer with a private address and without TLS; for closed networks and tests."""


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Limits on uploads."""

    max_object_bytes: Annotated[int, Field(ge=1)] = 100 * GIB
    """Maximum size of an uploaded file."""
    ttl_hours: Annotated[int, Field(ge=1, alias="upload_ttl_hours")] = 24
    """Idle time after which a resumable upload is removed."""
    open_per_user: Annotated[int, Field(ge=1, alias="max_open_uploads_per_user")] = 100
    """Open resumable uploads per user."""

    @property
    def ttl_s(self) -> float:
        """The idle time in seconds."""
        return float(self.ttl_hours * HOUR_S)


@dataclass(frozen=True, slots=True)
class StorageQuota:
    """Bytes that may be stored; None: limited by the disk alone."""

    bytes_per_org: Annotated[int | None, Field(ge=1, alias="max_storage_bytes_per_org")] = None
    """Bytes that the datasets of one organization may hold; unset: limited by the disk alone."""
    bytes_per_user: Annotated[int | None, Field(ge=1, alias="max_storage_bytes_per_user")] = None
    """Bytes that all organizations of one owner may hold together; unset: limited by the disk alone."""

    @property
    def unlimited(self) -> bool:
        """True if there are no limits to check."""
        return self.bytes_per_org is None and self.bytes_per_user is None


@dataclass(frozen=True, slots=True)
class Quotas:
    """Limits on active tasks and on what they may write."""

    output_bytes: Annotated[int, Field(ge=1, alias="max_output_bytes")] = 20 * GIB
    """Maximum estimated size of a task's output."""
    active: Annotated[int, Field(ge=1, alias="max_active_tasks")] = 32
    """Tasks that may wait or run at once."""
    active_per_org: Annotated[int, Field(ge=1, alias="max_active_tasks_per_org")] = 10
    """Of these, tasks of one organization."""
    active_per_user: Annotated[int, Field(ge=1, alias="max_active_tasks_per_user")] = 20
    """Of these, tasks of one user."""
    active_anonymous: Annotated[int, Field(ge=0, alias="max_active_tasks_anonymous")] = 2
    """Of these, tasks of all anonymous callers together."""
    scheduled_per_user: Annotated[int, Field(ge=1, alias="max_scheduled_tasks_per_user")] = 1000
    """Tasks of one user that are scheduled for later; once due, they wait until the limits on active tasks have room."""
    bulk_downloads_per_user: Annotated[int, Field(ge=1, alias="max_active_bulk_downloads_per_user")] = 1
    """Bulk downloads of one user that may wait or run at once."""
    artifact_bytes_per_org_day: Annotated[int, Field(ge=1, alias="max_artifact_bytes_per_org_day")] = (
        100 * GIB
    )
    """Bytes of artifacts that an organization may create in 24 hours."""


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """Leases, retries and concurrency of tasks, as workers and maintenance must agree on them."""

    running_per_user: Annotated[int, Field(ge=1, alias="max_running_tasks_per_user")] = 3
    """Tasks of one user that run at once; further ones wait."""
    poll_s: Annotated[float, Field(gt=0, alias="worker_poll_s")] = 1.0
    """Interval at which a worker polls Postgres for work without having been woken."""
    lease_ttl_s: Annotated[float, Field(ge=2)] = 15.0
    """Time without a heartbeat after which a task is given to another worker."""
    heartbeat_s: Annotated[float, Field(gt=0)] = 1.0
    """Interval at which a worker renews its leases and writes progress."""
    max_attempts: Annotated[int, Field(ge=1)] = 2
    """Attempts that may end in a crash, a lost worker or a retryable error before the task fails."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Concurrency and timeouts of one worker process."""

    slots: Annotated[int, Field(ge=1, le=64, alias="worker_slots")] = 2
    """Tasks that one worker process runs at once."""
    cancel_grace_s: Annotated[float, Field(ge=0)] = 1.0
    """Time for a cancelled tool to stop before it is killed."""
    shutdown_grace_s: Annotated[float, Field(ge=0)] = 10.0
    """Time for the tasks of a stopping worker to finish before they are handed over."""
    task_timeout_s: Annotated[int, Field(ge=1)] = 24 * HOUR_S
    """Timeout of one attempt."""
    sweep_s: Annotated[float, Field(gt=0)] = 15.0
    """Interval of the maintenance jobs, which remove what has expired or is orphaned."""


@dataclass(frozen=True, slots=True)
class LogLimits:
    """Limits on the retained end of a task's log."""

    lines: Annotated[int, Field(ge=100, alias="log_max_lines")] = 10_000
    """Lines retained of a task's log; older ones are dropped first."""
    total_bytes: Annotated[int, Field(ge=64 * 1024, alias="log_max_bytes")] = 4 * MIB
    """UTF-8 bytes retained of a task's log; no line is longer than 16 KiB."""

    def exceeded_by(self, lines: int, total_bytes: int) -> bool:
        """True if a log of that size is too long."""
        return lines > self.lines or total_bytes > self.total_bytes


@dataclass(frozen=True, slots=True)
class Retention:
    """Retention of results and records."""

    dedup_lookback_hours: Annotated[int, Field(ge=0)] = 24
    """Period in which a succeeded task is returned for an identical request."""
    artifact_ttl_hours: Annotated[int, Field(ge=1)] = 72
    """Lifetime of an artifact."""
    task_retention_days: Annotated[int, Field(ge=1)] = 60
    """Retention of an ended task's row and log."""
    audit_retention_days: Annotated[int, Field(ge=1)] = 365
    """Retention of the audit log."""


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """Limits on archives from outside."""

    archive_bytes: Annotated[int, Field(ge=1, alias="archive_max_bytes")] = 5 * GIB
    """Maximum size of an archive that is extracted."""
    extracted_bytes: Annotated[int, Field(ge=1, alias="archive_max_extracted_bytes")] = 100 * GIB
    """Bytes that may be extracted from one archive."""
    extracted_entries: Annotated[int, Field(ge=1, alias="archive_max_entries")] = 100_000
    """Files and folders that may be extracted from one archive."""
    extraction_ratio: Annotated[int, Field(ge=1, alias="archive_max_ratio")] = 100
    """Extracted bytes per byte of the archive."""
    archive_depth: Annotated[int, Field(ge=1, alias="archive_max_depth")] = 32
    """Depth of folders in an archive."""


@dataclass(frozen=True, slots=True)
class RenderSettings:
    """Rendering of tiles, thumbnails and previews in one API process."""

    processes: Annotated[int, Field(ge=1, le=64, alias="render_processes")] = 2
    """Images (tiles, thumbnails, previews) that one API process renders at once, each in its own process."""
    queue: Annotated[int, Field(ge=1, alias="render_queue")] = 128
    """Images that may wait to be rendered; further requests are rejected with `Retry-After`. One caller may use a quarter."""
    timeout_s: Annotated[float, Field(gt=0, alias="render_timeout_s")] = 30.0
    """Timeout for rendering one image."""
    cache_folder: Annotated[Path | None, Field(alias="render_cache_folder")] = None
    """Folder of rendered images; unset: the folder `cache` beside the stored files."""
    cache_bytes: Annotated[int, Field(ge=MIB, alias="render_cache_bytes")] = GIB
    """Maximum size of that folder."""


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """Delivery of webhooks."""

    timeout_s: Annotated[float, Field(gt=0, le=300, alias="callback_timeout_s")] = 15.0
    """Timeout of one delivery, from the DNS lookup to the response's status."""
    allow_private: Annotated[bool, Field(alias="callback_allow_private")] = False
    """Allows webhooks to private, loopback and link-local addresses; for closed networks and tests."""
