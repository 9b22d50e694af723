"""Every setting, read once from the environment (`AEROTASK_…`); nothing below this module reads it."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from aerotask.domain.retry import OUTAGE_S

MIB = 1024**2
GIB = 1024**3
HOUR_S = 3600


# What examples and defaults are made of, here and elsewhere.
_KNOWN = (
    "changeme",
    "change-me",
    "default",
    "example",
    "insecure",
    "only-for",
    "password",
    "secret",
    "tests",
)
_MIN_DIFFERENT = 8


def is_guessable(secret: str) -> bool:
    """Whether a secret looks like an example, or has few different characters."""
    plain = secret.lower()
    return len(set(plain)) < _MIN_DIFFERENT or any(known in plain for known in _KNOWN)


class Settings(BaseSettings):
    """The configuration of one installation; the same for its API and its workers."""

    model_config = SettingsConfigDict(
        env_prefix="AEROTASK_", frozen=True, extra="ignore", use_attribute_docstrings=True
    )

    mode: str = Field("development", pattern="^(development|production)$")
    """`production` refuses to start with secrets that are weak or known, a moved clock or armed failpoints."""
    database_url: SecretStr
    """Postgres 15 or newer, as `postgresql://user:password@host:port/name` or with `?host=/socket/folder`."""
    redis_url: SecretStr
    """Redis or Valkey, as `redis://host:port/0` or `unix:///path.sock?db=0`."""
    storage_url: str
    """Where blobs lie: `file:///absolute/folder`, the same for every process."""
    secret_key: SecretStr
    """Signs the bearer tokens, and is what the keys of callbacks derive from; at least 32 characters, the same for every process."""
    admin_password: SecretStr | None = None
    """The first administrator's password; used once, by `aerotask migrate`, when there is no user yet."""
    log_format: str = Field("console", pattern="^(console|json)$")
    """How processes write their own log: `console` for people, `json` for machines."""

    token_ttl_s: int = Field(12 * HOUR_S, ge=60)
    """How long a bearer token holds, in seconds."""
    session_ttl_s: int = Field(30 * 24 * HOUR_S, ge=60)
    """How long after the sign-in a token can still be refreshed."""
    sign_in_window_s: int = Field(300, ge=1)
    """How long failed sign-ins are counted together."""
    max_failed_sign_ins_per_account: int = Field(10, ge=1)
    """How many sign-ins of one account may fail in that time; then it is 429 until the time is over."""
    max_failed_sign_ins_per_address: int = Field(100, ge=1)
    """How many sign-ins from one address may fail in that time."""
    trusted_proxies: str = ""
    """Addresses and networks, separated by commas, whose `X-Forwarded-For` and `-Proto` are believed."""
    cors_origins: str = ""
    """Origins, separated by commas, whose pages may call the API from a browser; `*` for all. None by default."""
    max_url_bytes: int = Field(16 * 1024, ge=1024)
    """The longest path with query of a request; 200 ids of tasks take 9 KiB."""
    max_header_bytes: int = Field(32 * 1024, ge=4096)
    """The most that all headers of a request together may be."""
    audit_retention_days: int = Field(365, ge=1)
    """How long the audit log is kept."""

    oidc_issuer: str | None = None
    """An OpenID Connect issuer whose tokens are accepted beside our own, as its tokens spell it."""
    oidc_audience: str = "aerotask"
    """The audience that its tokens must name."""
    oidc_provision: bool = False
    """Whether somebody with a good token whom nobody has added becomes a user."""
    oidc_allow_private: bool = False
    """Whether the issuer may be at a private address, and without TLS; for closed networks and tests."""

    max_body_bytes: int = Field(MIB, ge=1024)
    """The largest request body other than an upload."""
    max_object_bytes: int = Field(100 * GIB, ge=1)
    """The largest file that may be uploaded."""
    upload_ttl_hours: int = Field(24, ge=1)
    """How long a resumable upload may rest before it is given up."""
    max_open_uploads_per_user: int = Field(100, ge=1)
    """How many resumable uploads of one user may be open at once."""
    max_storage_bytes_per_org: int | None = Field(None, ge=1)
    """How many bytes the datasets of one organization may hold; unset: as many as the disk takes."""
    max_orgs_per_user: int = Field(100, ge=1)
    """How many organizations one user may own; system administrators as many as they like."""
    max_storage_bytes_per_user: int | None = Field(None, ge=1)
    """How many bytes all organizations that one user owns may hold together; unset: as many as the disk takes."""

    dedup_lookback_hours: int = Field(24, ge=0)
    """How long a succeeded task answers for an identical one."""
    artifact_ttl_hours: int = Field(72, ge=1)
    """How long an artifact can be downloaded."""
    task_retention_days: int = Field(60, ge=1)
    """How long an ended task's row and log are kept."""
    log_max_lines: int = Field(10_000, ge=100)
    """How many lines of a task's log are kept; older ones are dropped first."""
    log_max_bytes: int = Field(4 * MIB, ge=64 * 1024)
    """How many bytes of a task's log are kept, likewise; no line is longer than 16 KiB."""

    max_output_bytes: int = Field(20 * GIB, ge=1)
    """The largest output that a task may be expected to make."""
    max_active_tasks: int = Field(32, ge=1)
    """How many tasks may wait or run at once."""
    max_active_tasks_per_org: int = Field(10, ge=1)
    """How many of them in one organization."""
    max_active_tasks_per_user: int = Field(20, ge=1)
    """How many of them of one user."""
    max_active_tasks_anonymous: int = Field(2, ge=0)
    """How many of them of all anonymous callers together."""
    max_active_bulk_downloads_per_user: int = Field(1, ge=1)
    """How many bulk downloads of one user may wait or run at once."""
    max_running_tasks_per_user: int = Field(3, ge=1)
    """How many tasks of one user run at once; more of them wait."""
    max_artifact_bytes_per_org_day: int = Field(100 * GIB, ge=1)
    """How many bytes of artifacts an organization may make in 24 hours."""

    archive_max_bytes: int = Field(5 * GIB, ge=1)
    """The largest archive that is extracted."""
    archive_max_extracted_bytes: int = Field(100 * GIB, ge=1)
    """How many bytes may come out of one archive."""
    archive_max_entries: int = Field(100_000, ge=1)
    """How many files and folders may come out of one archive."""
    archive_max_ratio: int = Field(100, ge=1)
    """How many bytes may come out of an archive for each of its own."""
    archive_max_depth: int = Field(32, ge=1)
    """How many folders deep an archive may go."""
    bulk_download_async_threshold_bytes: int = Field(256 * MIB, ge=0)
    """The largest selection that `GET …/download` streams at once; a larger one is a task for `bulk-download`."""

    events_keepalive_s: float = Field(15.0, gt=0)
    """After how long without news a stream of events shows that it is alive, and rights are asked for again."""

    render_processes: int = Field(2, ge=1, le=64)
    """How many pictures (tiles, thumbnails, previews) one API process draws at once, each in a process of its own."""
    render_queue: int = Field(128, ge=1)
    """How many pictures may wait to be drawn; who asks for one more is told to come back, and one caller for more than a quarter of them."""
    render_timeout_s: float = Field(30.0, gt=0)
    """How long drawing one picture may take."""
    render_cache_folder: Path | None = None
    """Where drawn pictures are kept; unset, the folder `cache` beside the stored files."""
    render_cache_bytes: int = Field(GIB, ge=MIB)
    """How large that folder may grow."""
    view_token_ttl_s: int = Field(HOUR_S, ge=60)
    """How long a token for map clients holds, in seconds."""

    worker_slots: int = Field(2, ge=1, le=64)
    """How many tasks one worker process runs at once."""
    worker_poll_s: float = Field(1.0, gt=0)
    """How often a worker looks in Postgres for work that no hint told it of."""
    lease_ttl_s: float = Field(15.0, ge=2)
    """After how long without a sign of life a task is given to another worker."""
    heartbeat_s: float = Field(1.0, gt=0)
    """How often a worker renews its leases and writes progress."""
    cancel_grace_s: float = Field(1.0, ge=0)
    """How long a cancelled tool has to stop by itself before it is killed."""
    shutdown_grace_s: float = Field(10.0, ge=0)
    """How long a stopping worker lets its tasks finish before it hands them over."""
    task_timeout_s: int = Field(24 * HOUR_S, ge=1)
    """The longest that one attempt may run."""
    max_attempts: int = Field(2, ge=1)
    """How many attempts may end by a crash, a lost worker or a retryable error before the task fails."""

    callback_timeout_s: float = Field(15.0, gt=0, le=300)
    """How long one try to deliver a callback may take, from the look-up of the name to the answer's status."""
    callback_allow_private: bool = False
    """Whether callbacks may go to private, loopback and link-local addresses; for closed networks and tests."""

    sweep_s: float = Field(15.0, gt=0)
    """How often expired and orphaned things are looked for."""
    blob_grace_s: int = Field(HOUR_S, ge=1)
    """How old a stored file that nothing names must be before it is removed; in production mode at least 1800."""
    clock_offset_s: int = 0
    """Added to the database's clock where expiry is decided; for tests and rehearsals only."""

    @field_validator("secret_key")
    @classmethod
    def _long_enough(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        secret = value.get_secret_value()
        if len(secret) < 32:
            raise ValueError("AEROTASK_SECRET_KEY needs at least 32 characters")
        if info.data.get("mode") == "production" and is_guessable(secret):
            raise ValueError(
                "is a secret that can be guessed, which production mode refuses; make one, for instance "
                "with: python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"
            )
        return value

    @field_validator("admin_password")
    @classmethod
    def _no_known_password(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        password = value.get_secret_value() if value else ""
        if info.data.get("mode") == "production" and password and is_guessable(password):
            raise ValueError("is a password that can be guessed, which production mode refuses")
        return value

    @field_validator("database_url")
    @classmethod
    def _no_known_database_password(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        # Without a password (a socket, a certificate, a file of passwords) there is none to be guessed.
        parts = urlsplit(value.get_secret_value())
        password = unquote(parts.password or "")
        if info.data.get("mode") == "production" and password and is_guessable(password):
            raise ValueError("holds a password that can be guessed, which production mode refuses")
        return value

    @field_validator("clock_offset_s")
    @classmethod
    def _present_time(cls, value: int, info: ValidationInfo) -> int:
        if info.data.get("mode") == "production" and value:
            raise ValueError("is for tests and rehearsals; production mode refuses it")
        return value

    @field_validator("blob_grace_s")
    @classmethod
    def _longer_than_an_outage(cls, value: int, info: ValidationInfo) -> int:
        # What a worker has stored and can't name yet, since Postgres is away, looks like an orphan.
        if info.data.get("mode") == "production" and value < 2 * OUTAGE_S:
            raise ValueError(
                f"could remove what is in use; production mode refuses less than {2 * OUTAGE_S:.0f}"
            )
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: str) -> str:
        for part in filter(None, value.split(",")):
            ip_network(part.strip())
        return value

    @field_validator("storage_url")
    @classmethod
    def _a_folder(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme != "file" or parts.netloc or not parts.path.startswith("/"):
            raise ValueError("AEROTASK_STORAGE_URL must be file:///absolute/folder")
        return value

    @property
    def storage_folder(self) -> Path:
        """The folder that `storage_url` names."""
        return Path(unquote(urlsplit(self.storage_url).path))
