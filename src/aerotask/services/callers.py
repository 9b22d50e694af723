"""Who is calling: the one place that turns credentials into a caller."""

from __future__ import annotations

from dataclasses import dataclass, replace

from aerotask.domain.access import ANONYMOUS, Caller
from aerotask.domain.errors import Unauthenticated
from aerotask.services import keys
from aerotask.services.issuer import IssuerService, unverified_issuer
from aerotask.services.keys import KeyService
from aerotask.services.signing_in import session_of
from aerotask.services.tokens import Tokens
from aerotask.store import users
from aerotask.store.engine import Database


@dataclass(frozen=True, slots=True)
class CallerService:
    """Reads tokens of ours, API keys, and tokens of the external provider if there is one."""

    db: Database
    tokens: Tokens
    keys: KeyService
    issuer: IssuerService | None

    async def caller(self, credential: str, *, address: str | None) -> Caller:
        """Who presents the credential; one that doesn't hold leaves them anonymous, with the reason."""
        try:
            caller = await self._known(credential, address)
        except Unauthenticated as error:
            return replace(ANONYMOUS, rejected_credentials=error.message, address=address)
        return replace(caller, address=address)

    async def _known(self, credential: str, address: str | None) -> Caller:
        if credential.startswith(keys.PREFIX):
            return await self.keys.holder(credential)
        if self.issuer is not None and unverified_issuer(credential) == self.issuer.issuer:
            return await self.issuer.caller(credential, address=address)
        return await self._session(credential)

    async def _session(self, token: str) -> Caller:
        claims = self.tokens.read(token)
        async with self.db.read() as connection:
            user = await users.find(connection, claims.user_id)
        if user is None or user.is_deactivated or user.token_epoch != claims.epoch:
            raise Unauthenticated("The token has been revoked; sign in again.", code="bad-credentials")
        return session_of(user, since_s=claims.since_s, address=None)
