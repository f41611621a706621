"""Page about the service: versions, store, and the address of the API."""

from __future__ import annotations

import platform
import sqlite3
from typing import Any

from flask import render_template, request
from flask.typing import ResponseReturnValue

import chalk_flask
from chalk_flask.api.public_url import request_base_url
from chalk_flask.audit.events import read_latest_events
from chalk_flask.console.api_client import DEFAULT_ROOT
from chalk_flask.console.context import current

__all__ = ["show_about"]

_BACKENDS = {"sqlite": "SQLite", "json": "JSON files", "memory": "memory"}


def show_about() -> ResponseReturnValue:
    """Show versions, the store, its last check, and the address of the API."""
    console = current()
    store, settings = console.services.store, console.services.settings
    scheme = settings.storage.partition(":")[0]
    backend = _BACKENDS.get(scheme, scheme)
    facts = [
        ("Chalk Flask", chalk_flask.__version__),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("Store", f"{backend} {sqlite3.sqlite_version}" if scheme == "sqlite" else backend),
        ("Store id", store.store_id or "none"),
        ("Kept after a restart", "yes" if store.durable else "no: the store is in memory"),
    ]
    base_url = request_base_url(request, settings.public_url) + DEFAULT_ROOT
    return render_template("console/settings/about.html", facts=facts, base_url=base_url, check=_last_check())


def _last_check() -> dict[str, Any] | None:
    """Return the audit event of the last `chalk-flask check` of the tenant."""
    console = current()
    return next(read_latest_events(console.services.store, console.tenant, event="store.checked"), None)
