"""The parts that a running service is made of."""

from __future__ import annotations

from dataclasses import dataclass

from backends import Backend
from chalk_flask.access.audit import Audit
from chalk_flask.access.clients import Clients
from chalk_flask.access.door import Door
from chalk_flask.access.logins import Logins
from chalk_flask.access.oauth1 import OAuth1
from chalk_flask.access.read_log import ReadLog
from chalk_flask.access.signing import AccessTokens
from chalk_flask.access.tokens import Tokens
from chalk_flask.settings import Settings
from chalk_flask.webhooks.worker import Worker

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
