"""The parts that a running service is made of."""

from __future__ import annotations

from dataclasses import dataclass

from backends import Backend
from chalk_flask.audit.access_log import AccessLog
from chalk_flask.audit.log import AuditLog
from chalk_flask.audit.login_log import LoginLog
from chalk_flask.auth.authenticator import Authenticator
from chalk_flask.auth.clients.access_tokens import AccessTokenIssuer
from chalk_flask.auth.clients.store import ClientStore
from chalk_flask.auth.oauth1.verifier import OAuth1Verifier
from chalk_flask.auth.tokens.store import TokenStore
from chalk_flask.settings import Settings
from chalk_flask.webhooks.delivery.worker import Worker

__all__ = ["Services"]


@dataclass(frozen=True, slots=True)
class Services:
    """What `create_app` puts together; `app.extensions["chalk"]` holds it."""

    settings: Settings
    store: Backend
    tokens: TokenStore
    clients: ClientStore
    access_tokens: AccessTokenIssuer
    authenticator: Authenticator
    audit: AuditLog
    login_log: LoginLog
    access_log: AccessLog
    oauth1: OAuth1Verifier
    worker: Worker
