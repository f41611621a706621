"""The parts that a running service is made of."""

from __future__ import annotations

from dataclasses import dataclass

from backends import Backend
from chalk_flask.audit.access_log import ReadLog
from chalk_flask.audit.log import Audit
from chalk_flask.audit.login_log import Logins
from chalk_flask.auth.authenticator import Door
from chalk_flask.auth.clients.access_tokens import AccessTokens
from chalk_flask.auth.clients.store import Clients
from chalk_flask.auth.oauth1.verifier import OAuth1
from chalk_flask.auth.tokens.store import Tokens
from chalk_flask.settings import Settings
from chalk_flask.webhooks.delivery.worker import Worker

__all__ = ["Chalk"]


@dataclass(frozen=True, slots=True)
class Chalk:
    """What `create_app` puts together; `app.extensions["chalk"]` holds it."""

    settings: Settings
    store: Backend
    tokens: Tokens
    clients: Clients
    access_tokens: AccessTokens
    door: Door
    audit: Audit
    logins: Logins
    reads: ReadLog
    oauth1: OAuth1
    worker: Worker
