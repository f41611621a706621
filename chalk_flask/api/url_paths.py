"""URL paths: ids are percent-decoded once and may contain a slash, written `%2F`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes, urlsplit

from flask import Flask
from werkzeug.routing import BaseConverter, Map

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["any_case_rule", "configure_url_map", "quote_path", "url_rule"]

# A noncharacter, which no id contains. It replaces an encoded slash between the WSGI environment and the converter.
# In the path of a client another noncharacter replaces it, so that it stays an id that no record has.
_SLASH_MARK, _OTHER_NONCHARACTER = "\uffff", "\ufffe"
_SLASH_MARK_AS_WSGI = _SLASH_MARK.encode().decode("latin-1")
_OTHER_AS_WSGI = _OTHER_NONCHARACTER.encode().decode("latin-1")
_SLASH_MARK_QUOTED = quote(_SLASH_MARK)
_ENCODED_SLASH = re.compile("%2f", re.IGNORECASE)


class _IdConverter(BaseConverter):
    """URL converter for a `sourcedId`: one path segment that is not empty."""

    def to_python(self, value: str) -> str:
        return value.replace(_SLASH_MARK, "/")

    def to_url(self, value: str) -> str:
        return quote(value, safe="!$&'()*+,:;=@")


class _AnyCaseConverter(BaseConverter):
    """URL converter for a word in any letter case: `<any_case("token"):segment>`."""

    def __init__(self, url_map: Map, word: str) -> None:
        super().__init__(url_map)
        self.regex = f"(?i:{re.escape(word)})"


class _EncodedSlashMiddleware:
    """WSGI middleware that keeps encoded slashes apart from separators.

    PATH_INFO is already decoded, so `%2F` looks like a separator in it. The raw request target still has it encoded.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self.app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if _SLASH_MARK_AS_WSGI in environ["PATH_INFO"]:
            environ["PATH_INFO"] = environ["PATH_INFO"].replace(_SLASH_MARK_AS_WSGI, _OTHER_AS_WSGI)
        target = environ.get("REQUEST_URI") or environ.get("RAW_URI") or ""
        if "%2" in target and "%2f" in (raw_path := target.partition("?")[0]).lower():
            path = _mark_encoded_slashes(raw_path, environ.get("SCRIPT_NAME", ""))
            # If a proxy or middleware rewrote PATH_INFO, its value takes precedence.
            if path.replace(_SLASH_MARK_AS_WSGI, "/") == environ.get("PATH_INFO"):
                environ["PATH_INFO"] = path
        return self.app(environ, start_response)


def _mark_encoded_slashes(target: str, script_name: str) -> str:
    """Return the PATH_INFO of a raw request target in WSGI's latin-1 form, with marks instead of encoded slashes."""
    if not target.startswith("/"):
        target = urlsplit(target).path
    segments = [
        unquote_to_bytes(part.encode("latin-1", "replace"))
        .decode("latin-1")
        .replace(_SLASH_MARK_AS_WSGI, _OTHER_AS_WSGI)
        for part in _ENCODED_SLASH.split(target)
    ]
    path = "/" + _SLASH_MARK_AS_WSGI.join(segments).lstrip("/")
    return path.removeprefix(script_name)


def quote_path(path: str) -> str:
    """Percent-encode a decoded path for a URL. Commas are encoded too, as a Link header separates URLs by commas."""
    return quote(path, safe="/:@!$&'()*+=~").replace(_SLASH_MARK_QUOTED, "%2F")


def url_rule(path: str) -> str:
    """Return the Flask rule of a path template: `/users/<id:id>` for `/users/{id}`."""
    return path.replace("{", "<id:").replace("}", ">")


def any_case_rule(path: str) -> str:
    """Return the Flask rule of a path whose last segment may have any letter case."""
    parent, _, segment = path.rpartition("/")
    return f'{parent}/<any_case("{segment}"):segment>'


def configure_url_map(app: Flask) -> None:
    """Turn off redirects, ignore one trailing slash, and let ids contain encoded slashes."""
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.url_map.redirect_defaults = False
    app.url_map.converters["id"] = _IdConverter
    app.url_map.converters["any_case"] = _AnyCaseConverter
    # Flask's documentation adds middleware by this assignment.
    app.wsgi_app = _EncodedSlashMiddleware(app.wsgi_app)  # type: ignore[method-assign]  # see above
