"""Cookies of the console: the session id of the administrator, the signed page session, and the known browser.

The page session is `flask.session`. It contains the CSRF token, messages for the next page, and a new secret until it
is shown. Requests to the API have no page session, so that they spend no time on it.

After a sign-in, a signed cookie makes the browser known for the account (OWASP: "device cookie"). It gives no access.
Attempts to sign in are counted for a known browser alone, so that attempts of others do not lock its user out.
"""

from __future__ import annotations

import hashlib
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography.fernet import Fernet, InvalidToken
from flask import Flask, Request, Response, current_app, request, session
from flask.sessions import NullSession, SecureCookieSession, SecureCookieSessionInterface, SessionMixin
from flask_wtf.csrf import generate_csrf
from itsdangerous import BadSignature, URLSafeTimedSerializer
from werkzeug.wrappers import Response as WerkzeugResponse

from chalk_flask.admins.throttle import account_key
from chalk_flask.auth.secrets.key_file import KeyFile, KeyFileError
from chalk_flask.settings import Settings

__all__ = [
    "CONSOLE_KEY_FILE",
    "PageSessionInterface",
    "delete_session_cookie",
    "flash_secret",
    "has_page_session",
    "known_browser",
    "new_csrf_token",
    "page_sessions",
    "remember_browser",
    "rotate_page_session",
    "session_secret",
    "session_secrets_in",
    "set_session_cookie",
    "take_secret",
    "uses_tls",
]

CONSOLE_KEY_FILE = "console.key"
"""Name of the key file below the setting `data`."""
PAGE_SESSION_SECONDS = 12 * 3600
"""Maximum age of a page session, which is the absolute timeout of an administrator's session."""
OWNER_LENGTH = 16
"""Characters of the hash of the session id that the page session repeats."""

KNOWN_BROWSER_SECONDS = 180 * 86400
"""Time for which a browser stays known after a sign-in."""

_SESSION_COOKIE, _PAGE_COOKIE, _BROWSER_COOKIE = "chalk-session", "chalk-page", "chalk-browser"
_PAGE_SALT, _BROWSER_SALT = "console-page-session", "console-known-browser"
_HOST_PREFIX = "__Host-"
_NULL_SESSION = NullSession()


def uses_tls(current: Request, public_url: str) -> bool:
    """Return True if the browser reached the service by HTTPS: directly, by a trusted proxy, or at `public_url`."""
    if current.is_secure:
        return True
    return public_url.startswith("https://") and current.host == urlsplit(public_url).netloc


def session_secret(current: Request) -> str | None:
    """Return the session id that the browser sent, or None."""
    return current.cookies.get(_cookie_name(_SESSION_COOKIE, current)) or None


def session_secrets_in(cookie_header: str) -> tuple[str, ...]:
    """Return the possible session ids of a Cookie header. The name of the cookie depends on the use of TLS."""
    try:
        cookies = SimpleCookie(cookie_header)
    except CookieError:
        return ()
    names = (_HOST_PREFIX + _SESSION_COOKIE, _SESSION_COOKIE)
    return tuple(cookies[name].value for name in names if name in cookies and cookies[name].value)


def set_session_cookie(response: WerkzeugResponse, secret: str) -> None:
    """Set the cookie with the session id. The browser deletes it when it is closed."""
    response.set_cookie(_cookie_name(_SESSION_COOKIE, request), secret, **_attributes())


def delete_session_cookie(response: WerkzeugResponse) -> None:
    """Delete the cookie with the session id."""
    response.delete_cookie(_cookie_name(_SESSION_COOKIE, request), **_attributes())


def remember_browser(response: WerkzeugResponse, name: str) -> None:
    """Make this browser known for the administrator of this name, who has signed in completely."""
    value = {"account": account_key(name), "id": secrets.token_hex(16)}
    cookie = str(page_sessions().serializer_for(_BROWSER_SALT).dumps(value))
    name_of_cookie = _cookie_name(_BROWSER_COOKIE, request)
    response.set_cookie(name_of_cookie, cookie, max_age=KNOWN_BROWSER_SECONDS, **_attributes())


def known_browser(current: Request, name: str) -> str | None:
    """Return the id of the browser if it is known for the administrator of this name, else None."""
    cookie = current.cookies.get(_cookie_name(_BROWSER_COOKIE, current))
    if not cookie:
        return None
    try:
        value = page_sessions().serializer_for(_BROWSER_SALT).loads(cookie, max_age=KNOWN_BROWSER_SECONDS)
    except BadSignature:
        return None
    return str(value["id"]) if value["account"] == account_key(name) else None


def rotate_page_session(owner: str) -> None:
    """Begin a new page session with a new CSRF token, for an administrator's session or for "" after sign-out."""
    session.clear()
    if owner:
        session["owner"] = owner[:OWNER_LENGTH]


def flash_secret(subject: str, value: str) -> None:
    """Keep a new secret for the next page, which shows it with `take_secret`. `subject` says what it belongs to."""
    session["secret"] = {"subject": subject, "value": _cipher().encrypt(value.encode()).decode()}


def take_secret(subject: str) -> str | None:
    """Return the secret of `flash_secret` once, or None. The secret of another subject stays."""
    kept = session.get("secret")
    if not kept or kept["subject"] != subject:
        return None
    del session["secret"]
    try:
        return _cipher().decrypt(kept["value"].encode(), ttl=PAGE_SESSION_SECONDS).decode()
    except InvalidToken:
        return None


class PageSessionInterface(SecureCookieSessionInterface):
    """Page sessions in a signed cookie whose key is in a file of the service.

    `api_prefixes` are the beginnings of paths without a page session.
    """

    def __init__(self, settings: Settings, api_prefixes: tuple[str, ...], *, durable: bool) -> None:
        self._public_url = settings.public_url
        self._api_prefixes = api_prefixes
        self._file = KeyFile(Path(settings.data).absolute() / CONSOLE_KEY_FILE) if durable else None
        self._key = b"" if durable else secrets.token_bytes(32)

    def key(self) -> bytes:
        """Return the key of the console. Creates the key file if there is none. Raises KeyFileError."""
        return self._file.read_or_create() if self._file else self._key

    def is_secure(self, current: Request) -> bool:
        """Return True if the browser reached the service by HTTPS."""
        return uses_tls(current, self._public_url)

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        """Return the page session of a request; a null session for the API, and if the key file is not readable."""
        if request.environ["PATH_INFO"].startswith(self._api_prefixes):
            return _NULL_SESSION
        value = request.cookies.get(_cookie_name(_PAGE_COOKIE, request, self))
        try:
            return self.session_class(self._load(value)) if value else self.session_class()
        except KeyFileError:
            return _NULL_SESSION  # the blueprint reads the key again and reports the error

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Add the cookie to the response if the session was changed."""
        if not session.modified:
            return
        name = _cookie_name(_PAGE_COOKIE, request, self)
        if session:
            response.set_cookie(name, str(self.serializer_for(_PAGE_SALT).dumps(dict(session))), **_attributes(self))
        else:
            response.delete_cookie(name, **_attributes(self))

    def _load(self, value: str) -> Mapping[str, Any]:
        try:
            data = self.serializer_for(_PAGE_SALT).loads(value, max_age=PAGE_SESSION_SECONDS)
        except BadSignature:
            return {}
        return data if isinstance(data, dict) else {}

    def serializer_for(self, salt: str) -> URLSafeTimedSerializer:
        """Return the serializer that signs the cookies of one kind. Raises KeyFileError."""
        return URLSafeTimedSerializer(
            self.key(),
            salt=salt,
            serializer=self.serializer,
            signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
        )


def new_csrf_token() -> str:
    """Return a CSRF token of the page session. Raises KeyFileError."""
    return str(generate_csrf(secret_key=page_sessions().key()))


def has_page_session() -> bool:
    """Return True if forms can be sent: the request has a page session, and the key of the console is readable."""
    current: Any = session
    if isinstance(current._get_current_object(), NullSession):
        return False
    try:
        page_sessions().key()
    except KeyFileError:
        return False
    return True


def page_sessions() -> PageSessionInterface:
    """Return the session interface of the application."""
    found = current_app.session_interface
    assert isinstance(found, PageSessionInterface)
    return found


def _cookie_name(name: str, current: Request, sessions: PageSessionInterface | None = None) -> str:
    """Return the name of a cookie. Browsers accept `__Host-` names from this host and over TLS alone."""
    return _HOST_PREFIX + name if (sessions or page_sessions()).is_secure(current) else name


def _attributes(sessions: PageSessionInterface | None = None) -> dict[str, Any]:
    secure = (sessions or page_sessions()).is_secure(request)
    return {"path": "/", "httponly": True, "samesite": "Lax", "secure": secure}


def _cipher() -> Fernet:
    derived = hashlib.sha256(b"console-new-secret" + page_sessions().key()).digest()
    return Fernet(urlsafe_b64encode(derived))
