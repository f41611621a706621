"""A self-hosted OneRoster 1.1 service. `create_app` makes the WSGI application."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

__all__ = ["create_app"]


def create_app(**settings: object) -> Flask:
    """The application, ready to serve: any WSGI server can take it.

    `settings` win over `CHALK_*` and the settings file. The store is opened (made, if need be) now and stays open:
    `app.extensions["chalk"].store.close()` lets go of it. Raises chalk_flask.settings.BadSettings,
    backends.BadStorageURL, backends.StoreFailed.
    """
    # A command that serves nothing, such as an import, starts in half the time without Flask.
    from chalk_flask.factory import create_application

    return create_application(settings)
