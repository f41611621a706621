"""How the application is put together, a line a step."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Flask

from backends import open_store
from chalk_flask import api
from chalk_flask.access import Door, Tokens
from chalk_flask.chalk import Chalk
from chalk_flask.collections import COLLECTIONS
from chalk_flask.settings import load

__all__ = ["application"]


def application(settings: Mapping[str, object]) -> Flask:
    """What `chalk_flask.create_app` returns."""
    read = load(settings)
    store = open_store(read.storage, COLLECTIONS)
    tokens = Tokens(store)
    chalk = Chalk(read, store, tokens, Door((tokens,)))
    app = Flask("chalk_flask", static_folder=None)
    app.extensions["chalk"] = chalk
    api.register(app, chalk)
    return app
