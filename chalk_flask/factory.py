"""How the application is put together, a line a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flask import Flask

from backends import open_store
from chalk_flask import api
from chalk_flask.audit.access_log import AccessLog
from chalk_flask.audit.log import AuditLog
from chalk_flask.audit.login_log import LoginLog
from chalk_flask.auth.authenticator import Authenticator
from chalk_flask.auth.clients.access_tokens import KEY_FILE_NAME, AccessTokenIssuer
from chalk_flask.auth.clients.store import ClientStore
from chalk_flask.auth.jwt.verifier import JwtVerifier
from chalk_flask.auth.oauth1.verifier import OAuth1Verifier
from chalk_flask.auth.secrets.encryption import SecretCipher
from chalk_flask.auth.secrets.key_file import KeyFile
from chalk_flask.auth.tokens.store import TokenStore
from chalk_flask.services import Services
from chalk_flask.settings import load_settings
from chalk_flask.storage import COLLECTIONS
from chalk_flask.tenants.store import find_audit_tenant
from chalk_flask.webhooks.delivery.leader_lock import leader_lock_for
from chalk_flask.webhooks.delivery.worker import Worker
from chalk_flask.webhooks.http.client import WebhookClient
from chalk_flask.webhooks.http.ssrf_guard import SsrfGuard

__all__ = ["create_application"]


class _SyncFlask(Flask):
    """Flask asks of every function of every request whether it is a coroutine; ours are not."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """The function itself."""
        return func


def create_application(settings: Mapping[str, object]) -> Flask:
    """What `chalk_flask.create_app` returns."""
    read = load_settings(settings)
    store = open_store(read.storage, COLLECTIONS)
    data = Path(read.data).absolute()
    vault = SecretCipher(data)
    tokens, clients, oauth1 = TokenStore(store), ClientStore(store, vault=vault), OAuth1Verifier(store, vault)
    access_tokens = AccessTokenIssuer(clients, KeyFile(data / KEY_FILE_NAME), read.token_seconds)
    # Ours come before those of other issuers, which are JWTs too.
    door = Authenticator((tokens, access_tokens, JwtVerifier(store)))
    reads = AccessLog(data / "reads", read.audit_days)
    # Otherwise `chalk-flask serve` begins: an application that is only made leaves no folder where it happens to run.
    if read.sources.get("data") != "default":
        reads.start()
    guard = SsrfGuard(read.webhook_allowed_hosts.split(","))
    lease = leader_lock_for(read.storage, data, shared=store.shared)
    worker = Worker(store, vault, lease, lambda: WebhookClient(guard))
    chalk = Services(
        read,
        store,
        tokens,
        clients,
        access_tokens,
        door,
        AuditLog(store, find_audit_tenant),
        LoginLog(store, find_audit_tenant),
        reads,
        oauth1,
        worker,
    )
    app = _SyncFlask("chalk_flask", static_folder=None)
    app.extensions["chalk"] = chalk
    api.register(app, chalk)
    return app
