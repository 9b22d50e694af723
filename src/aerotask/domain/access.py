"""Who may do what in an organization and its datasets: the one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from aerotask.domain.ids import OrgId, UserId


class Access(StrEnum):
    """What an operation needs on a dataset, weakest first."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    ADMIN = "admin"


class Membership(StrEnum):
    """What a member of an organization was given."""

    READ_ONLY = "readOnly"
    READ_WRITE = "readWrite"
    READ_WRITE_DELETE = "readWriteDelete"
    ADMIN = "admin"


class Visibility(StrEnum):
    """Who else may read a dataset: nobody, whoever knows its address, everybody."""

    PRIVATE = "private"
    UNLISTED = "unlisted"
    PUBLIC = "public"


GRANTS: Mapping[Membership, frozenset[Access]] = {
    Membership.READ_ONLY: frozenset({Access.READ}),
    Membership.READ_WRITE: frozenset({Access.READ, Access.WRITE}),
    Membership.READ_WRITE_DELETE: frozenset({Access.READ, Access.WRITE, Access.DELETE}),
    Membership.ADMIN: frozenset(Access),
}
OPEN_TO_ALL: Mapping[Visibility, frozenset[Access]] = {
    Visibility.PRIVATE: frozenset(),
    Visibility.UNLISTED: frozenset({Access.READ}),
    Visibility.PUBLIC: frozenset({Access.READ}),
}


class Credential(StrEnum):
    """By what a caller has proved who they are."""

    TOKEN = "token"  # noqa: S105  the kind of credential, not one
    """A token that a password was given for."""
    KEY = "key"
    """An API key: a program."""
    ISSUER = "issuer"
    """A token of the external provider."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking; `user_id` is None for an anonymous caller."""

    user_id: UserId | None
    user_name: str | None
    is_admin: bool = False
    read_only: bool = False
    """Whether their key is for reading alone, whatever they themselves may do."""
    credential: Credential | None = None
    since_s: float = 0.0
    """When the session began that their token belongs to, as a Unix time."""
    epoch: int = 0
    """The user's token epoch as it was when the credentials were checked."""
    key_id: UUID | None = None
    """The key that they have."""
    address: str | None = None
    """Where the request came from, for the audit log and rate limits."""
    rejected_credentials: str | None = None
    """Why the credentials that came along don't hold, if some came and they don't."""

    @property
    def anonymous(self) -> bool:
        """Whether nobody is signed in."""
        return self.user_id is None

    @property
    def display_name(self) -> str:
        """The name by which histories and logs know them."""
        return self.user_name or "anonymous"


ANONYMOUS = Caller(user_id=None, user_name=None)


@dataclass(frozen=True, slots=True)
class OrgStanding:
    """What an organization's rows say about a caller."""

    org_id: OrgId
    owner_id: UserId | None
    membership: Membership | None
    is_public: bool = False


def rights_in(caller: Caller, standing: OrgStanding) -> frozenset[Access]:
    """What the caller may do to everything in the organization, whatever a dataset's visibility."""
    rights = _granted(caller, standing)
    return rights & {Access.READ} if caller.read_only else rights


def _granted(caller: Caller, standing: OrgStanding) -> frozenset[Access]:
    if caller.is_admin:
        return frozenset(Access)
    if caller.user_id is None:
        # Rows may have been read for somebody whose token turned out to be revoked.
        return frozenset()
    if caller.user_id == standing.owner_id:
        return frozenset(Access)
    if standing.membership is None:
        return frozenset()
    return GRANTS[standing.membership]


def rights_on(caller: Caller, standing: OrgStanding, visibility: Visibility) -> frozenset[Access]:
    """What the caller may do to a dataset of that visibility in the organization."""
    return rights_in(caller, standing) | OPEN_TO_ALL[visibility]


def may_manage_task(caller: Caller, rights: frozenset[Access], submitted_by: UserId | None) -> bool:
    """Whether the caller may cancel, retry, restart or delete a task: whoever submitted it, and administrators."""
    if caller.read_only:
        return False
    if caller.user_id is not None and caller.user_id == submitted_by:
        return Access.READ in rights
    return Access.ADMIN in rights
