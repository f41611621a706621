"""Ids in paths: percent-decoded once, and allowed to hold a slash as %2F."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes, urlsplit

from flask import Flask
from werkzeug.routing import BaseConverter

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["IdConverter", "configure_url_map", "quote_path"]

# A noncharacter, which no id holds, stands for an encoded slash from the WSGI environment to the converter.
MARK = "\uffff"
_MARK_AS_WSGI = MARK.encode().decode("latin-1")
_MARK_QUOTED = quote(MARK)


class IdConverter(BaseConverter):
    """A `sourcedId` as one segment of a path: anything but nothing."""

    def to_python(self, value: str) -> str:
        return value.replace(MARK, "/")


class EncodedSlashMiddleware:
    """WSGI middleware: PATH_INFO arrives decoded, so `%2F` has become a separator; the raw target still knows."""

    def __init__(self, app: WSGIApplication) -> None:
        self.app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        target = environ.get("REQUEST_URI") or environ.get("RAW_URI") or ""
        if "%2" in target and "%2f" in (asked := target.partition("?")[0]).lower():
            path = marked(asked, environ.get("SCRIPT_NAME", ""))
            # Whoever rewrote PATH_INFO on the way knows better than the target.
            if path.replace(_MARK_AS_WSGI, "/") == environ.get("PATH_INFO"):
                environ["PATH_INFO"] = path
        return self.app(environ, start_response)


def marked(target: str, script_name: str) -> str:
    """The PATH_INFO of a raw request target, in WSGI's latin-1 form, with a mark for each encoded slash."""
    if not target.startswith("/"):
        target = urlsplit(target).path
    raw = target.replace("%2f", _MARK_QUOTED).replace("%2F", _MARK_QUOTED).encode("latin-1", "replace")
    path = "/" + unquote_to_bytes(raw).decode("latin-1").lstrip("/")
    return path.removeprefix(script_name)


def quote_path(path: str) -> str:
    """A decoded path as it stands in a URL; a comma is encoded, so that it can stand in a Link header."""
    return quote(path, safe="/:@!$&'()*+=~").replace(_MARK_QUOTED, "%2F")


def configure_url_map(app: Flask) -> None:
    """No redirects, one trailing slash more is the same resource, and ids with slashes reach their routes."""
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.url_map.redirect_defaults = False
    app.url_map.converters["id"] = IdConverter
    # The assignment that Flask's own documentation shows for middleware.
    app.wsgi_app = EncodedSlashMiddleware(app.wsgi_app)  # type: ignore[method-assign]  # see above
