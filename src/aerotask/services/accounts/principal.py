"""A session: what a token of ours says before its user's row has confirmed it, and whom it stands for then."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

from aerotask.domain.access import ANONYMOUS, Caller, Credential
from aerotask.domain.ids import UserId
from aerotask.services.accounts.tokens import Claims
from aerotask.store.accounts.users import UserRow


@dataclass(frozen=True, slots=True)
class Session:
    """A token whose signature and time are good; it may have been revoked, which only the database knows."""

    claims: Claims
    address: str | None

    def confirmed(self, user: UserRow | None) -> Caller:
        """The caller; anonymous, with the reason, if the user is gone, deactivated or signed out everywhere."""
        if user is None or user.is_deactivated or user.token_epoch != self.claims.epoch:
            reason = "The token has been revoked; sign in again."
            return replace(ANONYMOUS, rejected_credentials=reason, address=self.address)
        return Caller(
            user_id=user.id,
            user_name=user.user_name,
            is_admin=user.is_admin,
            credential=Credential.TOKEN,
            since_s=self.claims.since_s,
            epoch=user.token_epoch,
            address=self.address,
        )


Presented: TypeAlias = Caller | Session
"""Who presents credentials: known already, or known as soon as the user's row has been read."""


def user_id_of(who: Presented) -> UserId | None:
    """Whose row tells who it is; None if nobody is signed in."""
    return who.claims.user_id if isinstance(who, Session) else who.user_id


def confirmed(who: Presented, user: UserRow | None) -> Caller:
    """The caller, now that their row has been read."""
    return who.confirmed(user) if isinstance(who, Session) else who
