"""Conversion of an HTTP request into the parts that an OAuth 1.0a signature covers (RFC 5849, section 3.4.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlsplit

from flask import Request

from chalk_flask.api.url_paths import quote_path
from chalk_flask.auth.oauth1.verifier import MalformedRequestError, SignedRequest

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

__all__ = ["SCHEME", "has_oauth1_header", "parse_signed_request"]

SCHEME = "OAuth"

FORM_CONTENT_TYPE = "application/x-www-form-urlencoded"
MAX_FORM_BYTES = 65536
MAX_PARAMETERS = 1000
"""Maximum size of a signed request, because all parameters are sorted and hashed before authentication.

See docs/conformance, O-02.
"""


def has_oauth1_header(environ: WSGIEnvironment) -> bool:
    """Return True if the Authorization header has the OAuth 1.0a scheme, in any letter case."""
    header: str = environ.get("HTTP_AUTHORIZATION", "")
    return header[:5].lower() == "oauth" and header[5:6] in ("", " ", "\t")


def parse_signed_request(request: Request, public_url: str) -> SignedRequest:
    """Return the signed parts of a request for which `has_oauth1_header` is true.

    The signed address is `public_url` with the path of the request, never its Host header. The signature covers a form
    body, and the hash of another body if the client sends it. Raises MalformedRequestError if the form or the number of
    parameters is too large.
    """
    parameters = _parse_pairs(request.query_string)
    if request.mimetype == FORM_CONTENT_TYPE:
        if (request.content_length or 0) > MAX_FORM_BYTES:
            raise MalformedRequestError(f"A form of a signed request must have at most {MAX_FORM_BYTES} bytes.")
        parameters += _parse_pairs(request.get_data())
    authorization: str = request.environ["HTTP_AUTHORIZATION"]
    uri = public_url + _raw_path(request)
    return SignedRequest(request.method, uri, parameters, authorization[len(SCHEME) :].strip(), request.get_data)


def _raw_path(request: Request) -> str:
    """Return the path below the mount with the client's own percent-encoding, which the signature covers."""
    target: str = request.environ.get("REQUEST_URI") or request.environ.get("RAW_URI") or quote_path(request.path)
    path = target.partition("?")[0] if target.startswith("/") else urlsplit(target).path
    return path.removeprefix(quote(request.root_path.rstrip("/")))


def _parse_pairs(encoded: bytes) -> list[tuple[bytes, bytes]]:
    """Return decoded names and values as bytes of any encoding. `%20` and `+` both decode to a space."""
    try:
        pairs = parse_qsl(
            encoded.decode("latin-1"), keep_blank_values=True, encoding="latin-1", max_num_fields=MAX_PARAMETERS
        )
    except ValueError as error:
        raise MalformedRequestError(f"A signed request must have at most {MAX_PARAMETERS} parameters.") from error
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
