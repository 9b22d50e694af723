"""Who is calling: the one place that turns credentials into a caller."""

from __future__ import annotations

from dataclasses import dataclass, replace

from aerotask.db.engine import Database
from aerotask.domain.access import ANONYMOUS, Caller
from aerotask.domain.errors import Unauthenticated
from aerotask.services.accounts import api_keys
from aerotask.services.accounts.api_keys import ApiKeyService
from aerotask.services.accounts.oidc import OidcService, unverified_issuer
from aerotask.services.accounts.principal import Presented, Session
from aerotask.services.accounts.tokens import Tokens
from aerotask.store.accounts import users


@dataclass(frozen=True, slots=True)
class AuthenticationService:
    """Reads tokens of ours, API keys, and tokens of the external provider if there is one."""

    db: Database
    tokens: Tokens
    keys: ApiKeyService
    issuer: OidcService | None

    async def presented(self, credential: str, *, address: str | None) -> Presented:
        """Who presents the credential; one that doesn't hold leaves them anonymous, with the reason."""
        try:
            return await self._known(credential, address)
        except Unauthenticated as error:
            return replace(ANONYMOUS, rejected_credentials=error.message, address=address)

    async def confirm(self, who: Presented) -> Caller:
        """The caller; a session is looked up."""
        if isinstance(who, Caller):
            return who
        async with self.db.read() as connection:
            return who.confirmed(await users.find(connection, who.claims.user_id))

    async def _known(self, credential: str, address: str | None) -> Presented:
        if credential.startswith(api_keys.PREFIX):
            return replace(await self.keys.holder(credential), address=address)
        if self.issuer is not None and unverified_issuer(credential) == self.issuer.issuer:
            return await self.issuer.caller(credential, address=address)
        return Session(self.tokens.read(credential), address)
