"""A self-hosted OneRoster 1.1 service. `create_app` makes the WSGI application."""

from __future__ import annotations

from flask import Flask

from backends import open_store
from chalk_flask import api
from chalk_flask.access import Tokens
from chalk_flask.chalk import Chalk
from chalk_flask.collections import COLLECTIONS
from chalk_flask.settings import load

__all__ = ["create_app"]


def create_app(**settings: object) -> Flask:
    """The application, ready to serve: any WSGI server can take it.

    `settings` win over `CHALK_*` and the settings file. The store is opened (made, if need be) now and stays open:
    `app.extensions["chalk"].store.close()` lets go of it. Raises chalk_flask.settings.BadSettings,
    backends.BadStorageURL, backends.StoreFailed.
    """
    read = load(settings)
    store = open_store(read.storage, COLLECTIONS)
    chalk = Chalk(read, store, Tokens(store))
    app = Flask(__name__, static_folder=None)
    app.extensions["chalk"] = chalk
    api.register(app, chalk)
    return app
