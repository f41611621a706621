"""Ids of requests: each response has one in the header X-Request-ID, and so has each log message about the request."""

from __future__ import annotations

import re
import sys
from random import getrandbits
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

__all__ = ["REQUEST_ID_HEADER", "current_request_id", "request_id_of"]

REQUEST_ID_HEADER = "X-Request-ID"

_HEADER_KEY = "HTTP_X_REQUEST_ID"
_ID_KEY = "chalk_flask.request_id"
"""Keys of the WSGI environment: the header of the client, and the id that applies."""

_WELL_FORMED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+/=-]{0,127}")
"""Ids that are accepted from clients. No e-mail address is one."""


def request_id_of(environ: WSGIEnvironment) -> str:
    """Return the id of a request: the one in its header X-Request-ID if that is well-formed, else a new one.

    A client may send its credential in the wrong header. That is not accepted as an id, because ids are logged.
    """
    known: str | None = environ.get(_ID_KEY)
    if known is not None:
        return known
    sent: str | None = environ.get(_HEADER_KEY)
    is_accepted = sent is not None and _WELL_FORMED.fullmatch(sent) and not _is_credential(sent, environ)
    environ[_ID_KEY] = chosen = sent if is_accepted and sent is not None else _new_id()
    return chosen


def current_request_id() -> str:
    """Return the id of the request that this thread answers; "" outside of a request."""
    if "flask" not in sys.modules:
        return ""  # a command that answers no requests starts in half the time without Flask
    from flask import has_request_context, request

    return request_id_of(request.environ) if has_request_context() else ""


def _new_id() -> str:
    """Return a random id. It need not be secret, and random bytes of the system would take ten times as long.

    A number would show how many requests others send.
    """
    return f"{getrandbits(64):016x}"


def _is_credential(text: str, environ: WSGIEnvironment) -> bool:
    """Return True if a text begins like a token of this service or a JWT, or is the credential of the request."""
    authorization: str = environ.get("HTTP_AUTHORIZATION", "")
    return text.startswith(("chk_", "eyJ")) or text == authorization.rpartition(" ")[2]
