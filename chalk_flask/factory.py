"""How the application is put together, a line a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flask import Flask

from backends import open_store
from chalk_flask import api
from chalk_flask.audit.access_log import ReadLog
from chalk_flask.audit.log import Audit
from chalk_flask.audit.login_log import Logins
from chalk_flask.auth.authenticator import Door
from chalk_flask.auth.clients.access_tokens import KEY_FILE, AccessTokens
from chalk_flask.auth.clients.store import Clients
from chalk_flask.auth.jwt.verifier import JwtBearer
from chalk_flask.auth.oauth1.verifier import OAuth1
from chalk_flask.auth.secrets.encryption import Vault
from chalk_flask.auth.secrets.key_file import KeyFile
from chalk_flask.auth.tokens.store import Tokens
from chalk_flask.services import Chalk
from chalk_flask.settings import load
from chalk_flask.storage import COLLECTIONS
from chalk_flask.webhooks.delivery.leader_lock import lease_of
from chalk_flask.webhooks.delivery.worker import Worker
from chalk_flask.webhooks.http.client import Poster
from chalk_flask.webhooks.http.ssrf_guard import Guard

__all__ = ["application"]


class _Synchronous(Flask):
    """Flask asks of every function of every request whether it is a coroutine; ours are not."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """The function itself."""
        return func


def application(settings: Mapping[str, object]) -> Flask:
    """What `chalk_flask.create_app` returns."""
    read = load(settings)
    store = open_store(read.storage, COLLECTIONS)
    data = Path(read.data).absolute()
    vault = Vault(data)
    tokens, clients, oauth1 = Tokens(store), Clients(store, vault=vault), OAuth1(store, vault)
    access_tokens = AccessTokens(clients, KeyFile(data / KEY_FILE), read.token_seconds)
    # Ours come before those of other issuers, which are JWTs too.
    door = Door((tokens, access_tokens, JwtBearer(store)))
    reads = ReadLog(data / "reads", read.audit_days)
    # Otherwise `chalk-flask serve` begins: an application that is only made leaves no folder where it happens to run.
    if read.sources.get("data") != "default":
        reads.begin()
    guard = Guard(read.webhook_allowed_hosts.split(","))
    lease = lease_of(read.storage, data, shared=store.shared)
    worker = Worker(store, vault, lease, lambda: Poster(guard))
    chalk = Chalk(read, store, tokens, clients, access_tokens, door, Audit(store), Logins(store), reads, oauth1, worker)
    app = _Synchronous("chalk_flask", static_folder=None)
    app.extensions["chalk"] = chalk
    api.register(app, chalk)
    return app
