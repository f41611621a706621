"""Headers in which a trusted proxy forwards the address of the client, and the host and scheme of its request."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from waitress.proxy_headers import (
    PROXY_HEADERS,
    MalformedProxyHeader,
    clear_untrusted_headers,
    parse_proxy_headers,
)

from chalk_flask.server.request_parser import ERROR_HEADERS, error_body

__all__ = ["ForwardedHeaders"]

log = logging.getLogger(__name__)

FORWARDED_HEADERS = {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port"}
MALFORMED_STATUS = "400 Bad Request"


class ForwardedHeaders:
    """WSGI application that applies the headers of a trusted proxy, and removes those of other clients.

    waitress would answer a malformed header with plain text, and log its value.
    """

    def __init__(self, app: WSGIApplication, trusted_proxy: str) -> None:
        self._app = app
        self._trusted_proxy = trusted_proxy

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Return the response, or an error with status 400 if a header of the proxy is malformed."""
        untrusted = set(PROXY_HEADERS)
        if self._trusted_proxy in ("*", environ["REMOTE_ADDR"]):
            try:
                untrusted = parse_proxy_headers(environ, 1, FORWARDED_HEADERS)
            except MalformedProxyHeader as error:
                return _reject(error.header, start_response)
            except IndexError:  # waitress does not expect an address that is empty without its port or its quotes
                return _reject("X-Forwarded-For", start_response)
        clear_untrusted_headers(environ, list(untrusted))
        return self._app(environ, start_response)


def _reject(header: str, start_response: StartResponse) -> Iterable[bytes]:
    log.warning("rejected a request of the trusted proxy, because its header %s is malformed", header)
    body = error_body(MALFORMED_STATUS, f"the header {header} of the proxy is malformed")
    start_response(MALFORMED_STATUS, [*ERROR_HEADERS, ("Content-Length", str(len(body)))])
    return [body]
