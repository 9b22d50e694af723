"""Authentication: turns credentials into a caller."""

from __future__ import annotations

from dataclasses import dataclass, replace

from aerotask.db.engine import Database
from aerotask.domain.access import ANONYMOUS, Caller
from aerotask.domain.errors import Unauthenticated
from aerotask.services.accounts import api_keys
from aerotask.services.accounts.api_keys import ApiKeyService
from aerotask.services.accounts.oidc import OidcService, unverified_issuer
from aerotask.services.accounts.tokens import Tokens, UnverifiedPrincipal, UnverifiedToken, verify
from aerotask.store.accounts import users


@dataclass(frozen=True, slots=True)
class AuthenticationService:
    """Accepts Aerotask's tokens, API keys, and tokens of the external provider if one is configured."""

    db: Database
    tokens: Tokens
    keys: ApiKeyService
    issuer: OidcService | None

    async def authenticate(self, credential: str, *, address: str | None) -> UnverifiedPrincipal:
        """The principal of a credential; anonymous, with the reason, if the credential is invalid."""
        try:
            return await self._principal(credential, address)
        except Unauthenticated as error:
            return replace(ANONYMOUS, rejected_credentials=error.message, address=address)

    async def verify(self, principal: UnverifiedPrincipal) -> Caller:
        """The caller; the user of an unverified token is loaded."""
        if isinstance(principal, Caller):
            return principal
        async with self.db.read() as connection:
            return verify(principal, await users.find(connection, principal.claims.user_id))

    async def _principal(self, credential: str, address: str | None) -> UnverifiedPrincipal:
        if credential.startswith(api_keys.PREFIX):
            return replace(await self.keys.authenticate(credential), address=address)
        if self.issuer is not None and unverified_issuer(credential) == self.issuer.issuer:
            return await self.issuer.authenticate(credential, address=address)
        return UnverifiedToken(self.tokens.read(credential), address)
