"""Access rights in organizations and their datasets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from aerotask.domain.ids import OrgId, UserId


class Access(StrEnum):
    """The right that an operation needs on a dataset, weakest first."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    ADMIN = "admin"


class Membership(StrEnum):
    """The permissions of a member of an organization."""

    READ_ONLY = "readOnly"
    READ_WRITE = "readWrite"
    READ_WRITE_DELETE = "readWriteDelete"
    ADMIN = "admin"


class Visibility(StrEnum):
    """Readers of a dataset beside the members: none, anyone with its address, anyone who lists datasets."""

    PRIVATE = "private"
    UNLISTED = "unlisted"
    PUBLIC = "public"


MEMBER_RIGHTS: Mapping[Membership, frozenset[Access]] = {
    Membership.READ_ONLY: frozenset({Access.READ}),
    Membership.READ_WRITE: frozenset({Access.READ, Access.WRITE}),
    Membership.READ_WRITE_DELETE: frozenset({Access.READ, Access.WRITE, Access.DELETE}),
    Membership.ADMIN: frozenset(Access),
}
VISITOR_RIGHTS: Mapping[Visibility, frozenset[Access]] = {
    Visibility.PRIVATE: frozenset(),
    Visibility.UNLISTED: frozenset({Access.READ}),
    Visibility.PUBLIC: frozenset({Access.READ}),
}


class LinkScope(StrEnum):
    """Extent to which a signed link opens its target."""

    VIEW = "view"
    """Images, map tiles, lists, status, log and events."""
    DOWNLOAD = "download"
    """All that, and the files: contents, derivatives, results and assets."""


class Credential(StrEnum):
    """The kind of credential that a caller authenticated with."""

    TOKEN = "token"  # noqa: S105  the kind of credential, not one
    """An Aerotask token, issued for a password."""
    KEY = "key"
    """An API key, used by programs."""
    ISSUER = "issuer"
    """A token of the external provider."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The authenticated principal of a request; `user_id` is None for an anonymous caller."""

    user_id: UserId | None
    user_name: str | None
    is_admin: bool = False
    read_only: bool = False
    """The API key is read-only, whatever the user's own rights."""
    credential: Credential | None = None
    since_s: float = 0.0
    """Start of the token's session, as a Unix time."""
    epoch: int = 0
    """The user's token epoch at the time of authentication."""
    key_id: UUID | None = None
    """The API key that was used."""
    address: str | None = None
    """The client's IP address, for the audit log and rate limits."""
    rejected_credentials: str | None = None
    """Why the request's credentials are invalid; None if they are valid or absent."""

    @property
    def anonymous(self) -> bool:
        """True if no user is authenticated."""
        return self.user_id is None

    @property
    def display_name(self) -> str:
        """The name for histories and logs."""
        return self.user_name or "anonymous"


ANONYMOUS = Caller(user_id=None, user_name=None)
OPERATOR = Caller(user_id=None, user_name="command line", is_admin=True)
"""The operator: a person who runs a command on the machine, with access to the database itself; no request has this caller."""


@dataclass(frozen=True, slots=True)
class OrgStanding:
    """A caller's ownership and membership in an organization."""

    org_id: OrgId
    owner_id: UserId | None
    membership: Membership | None
    is_public: bool = False


def rights_in(caller: Caller, standing: OrgStanding) -> frozenset[Access]:
    """The caller's rights on everything in the organization, regardless of a dataset's visibility."""
    rights = _granted(caller, standing)
    return rights & {Access.READ} if caller.read_only else rights


def _granted(caller: Caller, standing: OrgStanding) -> frozenset[Access]:
    if caller.is_admin:
        return frozenset(Access)
    if caller.user_id is None:
        # The standing may have been read for a user whose token turned out to be revoked.
        return frozenset()
    if caller.user_id == standing.owner_id:
        return frozenset(Access)
    if standing.membership is None:
        return frozenset()
    return MEMBER_RIGHTS[standing.membership]


def rights_on(caller: Caller, standing: OrgStanding, visibility: Visibility) -> frozenset[Access]:
    """The caller's rights on a dataset of that visibility in the organization."""
    return rights_in(caller, standing) | VISITOR_RIGHTS[visibility]


def may_manage_task(caller: Caller, rights: frozenset[Access], submitted_by: UserId | None) -> bool:
    """True if the caller may cancel, retry, restart or delete a task: its submitter and administrators may."""
    if caller.read_only:
        return False
    if caller.user_id is not None and caller.user_id == submitted_by:
        return Access.READ in rights
    return Access.ADMIN in rights
