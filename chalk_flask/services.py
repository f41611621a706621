"""Container of the services that the parts of a running application share."""

from __future__ import annotations

from dataclasses import dataclass

from backends import Backend
from chalk_flask.audit.access_log import AccessLog
from chalk_flask.audit.login_log import LoginLog
from chalk_flask.auth.authenticator import Authenticator
from chalk_flask.auth.clients.access_tokens import AccessTokenIssuer
from chalk_flask.auth.clients.store import ClientStore
from chalk_flask.auth.oauth1.verifier import OAuth1Verifier
from chalk_flask.auth.tokens.store import TokenStore
from chalk_flask.settings import Settings
from chalk_flask.webhooks import Worker

__all__ = ["Services"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Services of an application, in `app.extensions["chalk"]`. All of them are thread-safe."""

    settings: Settings
    store: Backend
    tokens: TokenStore
    clients: ClientStore
    access_tokens: AccessTokenIssuer
    authenticator: Authenticator
    oauth1: OAuth1Verifier
    login_log: LoginLog
    access_log: AccessLog
    worker: Worker
