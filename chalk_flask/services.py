"""Container of the services that the parts of a running application share."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backends import Backend
from chalk_flask.admins.sessions import SessionStore
from chalk_flask.admins.setup_link import SetupLink
from chalk_flask.admins.sign_in import SignIn
from chalk_flask.admins.store import AdministratorStore
from chalk_flask.audit.access_log import AccessLog
from chalk_flask.audit.login_log import LoginLog
from chalk_flask.auth.authenticator import Authenticator
from chalk_flask.auth.clients.access_tokens import AccessTokenIssuer
from chalk_flask.auth.clients.store import ClientStore
from chalk_flask.auth.jwt.verifier import JwtVerifier
from chalk_flask.auth.oauth1.verifier import OAuth1Verifier
from chalk_flask.auth.tokens.store import TokenStore
from chalk_flask.jobs import JobStore, JobWorker
from chalk_flask.mail import MailWorker
from chalk_flask.metrics import ServiceMetrics
from chalk_flask.settings import Settings
from chalk_flask.shared_state import SharedState
from chalk_flask.webhooks import Worker

if TYPE_CHECKING:
    from chalk_flask.admins.oidc_sign_in import OidcSignIn

__all__ = ["ServiceAddress", "Services"]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class ServiceAddress:
    """URL of the service, to which client assertions and OAuth 1.0a signatures are bound.

    It is configured and never taken from a request: a client could otherwise present a credential that it received for
    another service. An empty `url` means that it is unknown.
    """

    url: str
    _warned: set[str] = field(default_factory=set)

    def is_known_for(self, credentials: str) -> bool:
        """Return True if the URL is known. If it is unknown, log once that these credentials are rejected."""
        if not self.url and credentials not in self._warned:
            self._warned.add(credentials)
            log.warning("%s are rejected, because public_url is not set: set CHALK_PUBLIC_URL", credentials)
        return bool(self.url)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Services of an application, in `app.extensions["chalk"]`. All of them are thread-safe."""

    settings: Settings
    address: ServiceAddress
    store: Backend
    tokens: TokenStore
    clients: ClientStore
    access_tokens: AccessTokenIssuer
    jwt_verifier: JwtVerifier
    authenticator: Authenticator
    oauth1: OAuth1Verifier
    login_log: LoginLog
    access_log: AccessLog
    worker: Worker
    administrators: AdministratorStore
    sessions: SessionStore
    sign_in: SignIn
    oidc_sign_in: OidcSignIn | None
    setup_link: SetupLink
    jobs: JobStore
    job_worker: JobWorker
    mail_worker: MailWorker
    metrics: ServiceMetrics
    shared_state: SharedState
    """State that the processes of this machine share."""
    credential_state: SharedState
    """Used credentials and failed attempts, which the processes of all machines share."""
