"""Settings of an installation, read once from the environment (`AEROTASK_…`); nothing below this module reads it."""

from __future__ import annotations

from dataclasses import is_dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from aerotask.domain.connection_urls import check_database_url, check_redis_url
from aerotask.domain.retry import OUTAGE_S
from aerotask.domain.settings import (
    HOUR_S,
    MIB,
    ArchiveLimits,
    HttpSettings,
    LoginLimits,
    LogLimits,
    OidcSettings,
    QueueSettings,
    Quotas,
    RenderSettings,
    Retention,
    StorageQuota,
    TokenLifetimes,
    UploadLimits,
    WebhookSettings,
    WorkerSettings,
)

# Words of example and default passwords, in this project and elsewhere.
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
_MIN_TOKEN_CHARS = 16


def is_guessable(secret: str) -> bool:
    """True if a secret looks like an example, or has few different characters."""
    plain = secret.lower()
    return len(set(plain)) < _MIN_DIFFERENT or any(known in plain for known in _KNOWN)


def _plain(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value or "")


def _with_password(url: str, password: str) -> str:
    """The URL with the password, unless it has one already."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if ":" in user:
        return url
    if not at:
        raise ValueError(
            "AEROTASK_DB_PASSWORD needs a user in AEROTASK_DATABASE_URL: postgresql://user@host/name"
        )
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}"))


class _Variables(EnvSettingsSource):
    """Source of all variables with the prefix, by flat names: the names don't include the group of a setting."""

    def __call__(self) -> dict[str, Any]:
        prefix = self.env_prefix.lower()
        return {
            name.removeprefix(prefix): value
            for name, value in self.env_vars.items()
            if name.startswith(prefix)
        }


class Settings(BaseSettings):
    """The configuration of one installation; the same for its API and its workers.

    Made from flat names, as in the environment; each group takes those that are its own.
    """

    model_config = SettingsConfigDict(
        env_prefix="AEROTASK_", frozen=True, extra="ignore", use_attribute_docstrings=True
    )

    mode: str = Field("development", pattern="^(development|production)$")
    """`production` refuses to start with weak or known secrets, a shifted clock or armed failpoints."""
    database_url: SecretStr
    """Postgres 15 or newer, as `postgresql://user:password@host:port/name` or with `?host=/socket/folder`."""
    db_password: SecretStr | None = None
    """Password of the database's user, of any characters; used where `AEROTASK_DATABASE_URL` has none."""
    redis_url: SecretStr
    """Redis or Valkey, as `redis://host:port/0` or `unix:///path.sock?db=0`."""
    storage_url: str
    """Folder of the stored files: `file:///absolute/folder`, the same for every process."""
    secret_key: SecretStr
    """Key that signs bearer tokens and from which webhook signing keys derive; at least 32 characters, the same for every process."""
    admin_password: SecretStr | None = None
    """The first administrator's password; used once, by `aerotask migrate`, when there is no user yet."""
    metrics_token: SecretStr | None = None
    """Bearer token that `GET /metrics` requires, at least 16 characters; unset: anyone who reaches the API may read them."""
    log_format: str = Field("console", pattern="^(console|json)$")
    """Format of the processes' own logs: `console` for people, `json` for machines."""
    max_orgs_per_user: int = Field(100, ge=1)
    """Organizations that one user may own; system administrators are not limited."""
    bulk_download_async_threshold_bytes: int = Field(256 * MIB, ge=0)
    """The largest selection that `GET …/download` streams at once; a larger one is a task for `bulk-download`."""
    blob_grace_s: int = Field(HOUR_S, ge=1)
    """Minimum age of an unreferenced stored file before it is removed; in production mode at least 1800."""
    min_free_bytes: int | None = Field(None, ge=0)
    """Space on the storage's disk that uploads leave free; below five times as much, deleted files are removed at once. Unset: a fiftieth of the disk, at most 1 GiB."""
    supervision_file: Path | None = None
    """File in which a supervisor reports restarts to `GET /readyz`; set by `aerotask up`."""
    clock_offset_s: int = 0
    """Added to the database's clock where expiry is decided; for tests and rehearsals only."""

    http: HttpSettings
    tokens: TokenLifetimes
    login: LoginLimits
    oidc: OidcSettings
    uploads: UploadLimits
    storage: StorageQuota
    quotas: Quotas
    queue: QueueSettings
    worker: WorkerSettings
    logs: LogLimits
    retention: Retention
    archives: ArchiveLimits
    render: RenderSettings
    webhooks: WebhookSettings

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Values given in code, then the environment."""
        return init_settings, _Variables(settings_cls)

    @model_validator(mode="before")
    @classmethod
    def _distribute(cls, flat: dict[str, Any]) -> dict[str, Any]:
        groups = {name: flat for name, field in cls.model_fields.items() if is_dataclass(field.annotation)}
        return {**flat, **groups}

    @model_validator(mode="before")
    @classmethod
    def _complete_database_url(cls, flat: dict[str, Any]) -> dict[str, Any]:
        url, password = (_plain(flat.get(name)) for name in ("database_url", "db_password"))
        if not url or not password:
            return flat
        return {**flat, "database_url": _with_password(url, password)}

    @field_validator("secret_key")
    @classmethod
    def _check_secret_key(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
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
    def _check_admin_password(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        password = value.get_secret_value() if value else ""
        if info.data.get("mode") == "production" and password and is_guessable(password):
            raise ValueError("is a password that can be guessed, which production mode refuses")
        return value

    @field_validator("metrics_token")
    @classmethod
    def _check_metrics_token(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        token = value.get_secret_value() if value else ""
        if value is not None and len(token) < _MIN_TOKEN_CHARS:
            raise ValueError(f"needs at least {_MIN_TOKEN_CHARS} characters")
        if info.data.get("mode") == "production" and token and is_guessable(token):
            raise ValueError("is a token that can be guessed, which production mode refuses")
        return value

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, value: SecretStr) -> SecretStr:
        check_redis_url(value.get_secret_value())
        return value

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        check_database_url(value.get_secret_value())
        # Without a password (a socket, a certificate, a password file) there is none to guess.
        parts = urlsplit(value.get_secret_value())
        password = unquote(parts.password or "")
        if info.data.get("mode") == "production" and password and is_guessable(password):
            raise ValueError("holds a password that can be guessed, which production mode refuses")
        return value

    @field_validator("clock_offset_s")
    @classmethod
    def _check_clock_offset(cls, value: int, info: ValidationInfo) -> int:
        if info.data.get("mode") == "production" and value:
            raise ValueError("is for tests and rehearsals; production mode refuses it")
        return value

    @field_validator("blob_grace_s")
    @classmethod
    def _check_blob_grace(cls, value: int, info: ValidationInfo) -> int:
        # A file that a worker has stored during an outage of Postgres has no row yet and looks like an orphan.
        if info.data.get("mode") == "production" and value < 2 * OUTAGE_S:
            raise ValueError(
                f"could remove what is in use; production mode refuses less than {2 * OUTAGE_S:.0f}"
            )
        return value

    @field_validator("storage_url")
    @classmethod
    def _check_storage_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme != "file" or parts.netloc or not parts.path.startswith("/"):
            raise ValueError("AEROTASK_STORAGE_URL must be file:///absolute/folder")
        return value

    @classmethod
    def secret_variables(cls) -> tuple[str, ...]:
        """Environment variables that hold secrets."""
        secrets = (name for name, field in cls.model_fields.items() if "SecretStr" in str(field.annotation))
        return tuple(f"AEROTASK_{name}".upper() for name in secrets)

    @property
    def storage_folder(self) -> Path:
        """The folder of `storage_url`."""
        return Path(unquote(urlsplit(self.storage_url).path))
