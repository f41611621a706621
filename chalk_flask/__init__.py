"""A self-hosted OneRoster 1.1 service.

`create_app` returns the WSGI application. It takes settings and serves the rosters of one store. The command line
(`chalk_flask.cli`) fills and manages the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    __version__: str
    """Version of the installed package; empty when it runs from a checkout that is not installed."""

__all__ = ["__version__", "create_app"]


def create_app(**settings: object) -> Flask:
    """Return the application, which any WSGI server can serve.

    `settings` take precedence over `CHALK_*` variables and the settings file. The store is opened (and created if it
    is missing) now and stays open until `app.extensions["chalk"].store.close()`. Raises SettingsError,
    InvalidStorageURLError and StorageError.
    """
    # A command that serves nothing, such as an import, starts in half the time without Flask.
    from chalk_flask.factory import create_application

    return create_application(settings)


if not TYPE_CHECKING:

    def __getattr__(name: str) -> str:
        """Compute `__version__` at its first use: reading package metadata takes longer than most commands."""
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import PackageNotFoundError, version

        try:
            number = version("chalk-flask")
        except PackageNotFoundError:
            number = ""
        globals()["__version__"] = number
        return number
