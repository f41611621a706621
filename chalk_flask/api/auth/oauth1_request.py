"""From an HTTP request to what an OAuth 1.0a signature of it is about (RFC 5849, section 3.4.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlsplit

from flask import Request

from chalk_flask.api.public_url import request_base_url
from chalk_flask.api.url_paths import quote_path
from chalk_flask.auth.oauth1.verifier import MalformedRequestError, SignedRequest

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

__all__ = ["SCHEME", "is_signed", "signed_request"]

SCHEME = "OAuth"

FORM = "application/x-www-form-urlencoded"
LARGEST_FORM = 65536
MOST_PARAMETERS = 1000
"""What is more is sorted and hashed for nobody: it happens before anyone is known."""


def is_signed(environ: WSGIEnvironment) -> bool:
    """Whether the request names OAuth 1.0a in its Authorization header, in any letter case."""
    header: str = environ.get("HTTP_AUTHORIZATION", "")
    return header[:5].lower() == "oauth" and header[5:6] in ("", " ", "\t")


def signed_request(request: Request, public_url: str) -> SignedRequest:
    """What is signed of a request that `is_signed`.

    A form is part of it, any other body is not. Raises Malformed, and Problem (400) for an address that is none.
    """
    parameters = _pairs(request.query_string)
    if request.mimetype == FORM:
        if (request.content_length or 0) > LARGEST_FORM:
            raise MalformedRequestError(f"A form of a signed request must have at most {LARGEST_FORM} bytes.")
        parameters += _pairs(request.get_data())
    authorization: str = request.environ["HTTP_AUTHORIZATION"]
    uri = request_base_url(request, public_url) + _path(request)
    return SignedRequest(request.method, uri, parameters, authorization[len(SCHEME) :].strip())


def _path(request: Request) -> str:
    """The path below the mount as the client wrote it: how it was percent-encoded is part of what is signed."""
    target: str = request.environ.get("REQUEST_URI") or request.environ.get("RAW_URI") or quote_path(request.path)
    path = target.partition("?")[0] if target.startswith("/") else urlsplit(target).path
    return path.removeprefix(quote(request.root_path.rstrip("/")))


def _pairs(encoded: bytes) -> list[tuple[bytes, bytes]]:
    """Names and values, decoded: `%20` and `+` are both a blank. The bytes as they are, whether or not UTF-8."""
    try:
        pairs = parse_qsl(
            encoded.decode("latin-1"), keep_blank_values=True, encoding="latin-1", max_num_fields=MOST_PARAMETERS
        )
    except ValueError as error:
        raise MalformedRequestError(f"A signed request must have at most {MOST_PARAMETERS} parameters.") from error
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
