"""Sign-in with an account of an identity provider: it limits attempts, and gives the access of the settings."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256

from chalk_flask.admins.external import ExternalAdministrators
from chalk_flask.admins.record import Administrator, AdministratorError
from chalk_flask.admins.throttle import SignInThrottle, TooManyAttemptsError
from chalk_flask.audit.login_log import LoginLog
from chalk_flask.oidc import Identity, OidcClient, OidcSettings, PendingOidc, ProviderError, SignInCanceledError
from chalk_flask.oidc.errors import OidcError
from chalk_flask.settings.sign_in_rules import AccessRule
from chalk_flask.tracebacks import RepeatedErrors

__all__ = ["AccessDeniedError", "OidcSignIn"]

log = logging.getLogger(__name__)

MAX_EXCHANGES = 4
"""Maximum number of requests to the provider at once, so that a slow one cannot occupy all threads."""
BUSY_RETRY_SECONDS = 5


class AccessDeniedError(Exception):
    """Verified account that has no access. `subject` is its id at the provider."""

    def __init__(self, subject: str) -> None:
        super().__init__("the account has no access")
        self.subject = subject


class OidcSignIn:
    """Sign-in with the identity provider of a client. Thread-safe. `address` is the address of the browser.

    Failures are recorded in the audit log, and those of the provider in the log of the service.
    """

    def __init__(
        self,
        client: OidcClient,
        administrators: ExternalAdministrators,
        login_log: LoginLog,
        throttle: SignInThrottle,
    ) -> None:
        self._client = client
        self._administrators = administrators
        self._login_log = login_log
        self._throttle = throttle
        self._exchanges = threading.BoundedSemaphore(MAX_EXCHANGES)
        self._errors = RepeatedErrors()
        self._access_digest = _digest_of(client.settings)

    @property
    def provider_name(self) -> str:
        """Name of the identity provider for administrators."""
        return self._client.settings.name

    def begin(self, redirect_uri: str, path: str) -> tuple[str, PendingOidc]:
        """Return the URL at which the user signs in, and what the browser must keep; see `OidcClient.begin`.

        Raises ProviderError and TooManyAttemptsError.
        """
        with self._exchange():
            return self._client.begin(redirect_uri, path)

    def complete(self, pending: PendingOidc, params: Mapping[str, str], address: str) -> Administrator:
        """Return the administrator of the account with which the user signed in, with the access of the settings.

        `params` are those of the provider's response. Raises OidcError, AccessDeniedError and TooManyAttemptsError. An
        account without access loses all sessions.
        """
        self._throttle.count_address(address)
        try:
            with self._exchange():
                identity = self._client.complete(pending, params)
        except SignInCanceledError:
            raise
        except OidcError:
            self._login_log.record_failed_sign_in(None, None, address)
            raise
        return self._give_access(identity, address)

    def accepts(self, administrator: Administrator) -> bool:
        """Return True if the settings are still those that gave an external administrator its access."""
        return administrator.access_digest == self._access_digest

    def _give_access(self, identity: Identity, address: str) -> Administrator:
        rule = _find_rule(self._client.settings, identity)
        try:
            if rule is not None:
                return self._administrators.save(identity, rule, self._access_digest)
        except AdministratorError as error:
            log.error("an account of the identity provider gets no access: %s", error)
        former = self._administrators.end_sessions(identity)
        tenant, administrator_id = (former.audit_tenant, former.id) if former else (None, None)
        self._login_log.record_failed_sign_in(tenant, administrator_id, address)
        raise AccessDeniedError(identity.subject)

    @contextmanager
    def _exchange(self) -> Iterator[None]:
        """Reserve one of the requests to the provider, and log its failures."""
        if not self._exchanges.acquire(blocking=False):
            raise TooManyAttemptsError(BUSY_RETRY_SECONDS)
        try:
            yield
            self._errors.clear()
        except ProviderError as error:
            level = self._errors.level(str(error))
            log.log(level, "sign-in with the identity provider %s failed: %s", self._client.settings.issuer, error)
            raise
        finally:
            self._exchanges.release()


def _find_rule(settings: OidcSettings, identity: Identity) -> AccessRule | None:
    if settings.domains and identity.domain not in settings.domains:
        return None
    return next((rule for rule in settings.rules if identity.matches(rule)), None)


def _digest_of(settings: OidcSettings) -> str:
    """Return a digest of the settings that decide about access."""
    parts = [settings.issuer, settings.client_id, *sorted(settings.domains), *(rule.text for rule in settings.rules)]
    return sha256("\0".join(parts).encode()).hexdigest()
