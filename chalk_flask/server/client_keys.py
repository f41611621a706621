"""Keys of clients by which connections and running requests are counted: their address and their credential.

The server needs them before a request is authenticated. A request with an invalid credential counts too.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import unquote
from urllib.request import parse_http_list

from chalk_flask.client_network import client_network
from chalk_flask.logs import log_event

__all__ = ["ClientAddresses", "credential_key", "is_search"]

log = logging.getLogger(__name__)

MAX_SIGNATURE_LENGTH = 8192
"""Maximum length of signature parameters that are parsed. The API rejects longer ones."""

_SEARCH = re.compile(r"filter=|sort=|orderBy=|(?:^|&)[^=&%]*%")
"""Parameters that filter or sort, and parameters with an escaped name. No honest client escapes a name."""


class ClientAddresses:
    """Addresses of clients, which a trusted proxy forwards."""

    def __init__(self, trusted_proxy: str) -> None:
        self._trusted_proxy = trusted_proxy
        self._has_warned = False

    def is_proxy(self, peer: str) -> bool:
        """Return True if the other end of a connection is the trusted proxy, which has many clients."""
        return bool(self._trusted_proxy) and self._trusted_proxy in ("*", peer)

    def network(self, peer: str, headers: Mapping[str, str]) -> str:
        """Return the address of the client of a request; of an IPv6 address, the network."""
        forwarded = headers.get("X_FORWARDED_FOR") if self.is_proxy(peer) else None
        return client_network(_last_address(forwarded) if forwarded else peer)

    def warn_of_untrusted_headers(self, peer: str, headers: Mapping[str, str]) -> None:
        """Log once that forwarded headers are ignored. A public address is not logged: it may identify a person."""
        if self._has_warned or self.is_proxy(peer):
            return
        if "X_FORWARDED_FOR" not in headers and "X_FORWARDED_PROTO" not in headers:
            return
        self._has_warned = True
        address = peer if ip_address(peer.partition("%")[0]).is_private else "a public address"
        log_event(
            log,
            logging.WARNING,
            "proxy.untrusted",
            "X-Forwarded-* headers are ignored, because the sender is not the trusted proxy: if it is your proxy, set"
            " trusted_proxy (CHALK_TRUSTED_PROXY) to its address; links and limits are wrong until then",
            address=address,
        )


def _last_address(forwarded: str) -> str:
    """Return the last address of an X-Forwarded-For header, without port and brackets."""
    address = forwarded.rpartition(",")[2].strip().strip('"')
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address


def credential_key(headers: Mapping[str, str]) -> str:
    """Return a text that is the same for all requests with one token, or signed by one OAuth 1.0a client.

    Letter case of the scheme and blanks make no difference, as they make none for the API.
    """
    authorization = headers.get("AUTHORIZATION", "")
    scheme, _, value = authorization.replace("\t", " ").partition(" ")
    scheme, value = scheme.lower(), value.strip()
    if scheme == "oauth":
        value = _consumer_key(value)
    return f"{scheme} {value}" if scheme else ""


def _consumer_key(parameters: str) -> str:
    """Return the OAuth 1.0a client that signed a request, or an empty text. The quotes around it are optional."""
    if len(parameters) > MAX_SIGNATURE_LENGTH:
        return ""
    for item in parse_http_list(parameters):
        name, _, value = item.partition("=")
        if unquote(name.strip()) == "oauth_consumer_key":
            return unquote(value.strip().strip('"'), "latin-1")
    return ""


def is_search(query: str) -> bool:
    """Return True if a query string filters or sorts, or may do so under an escaped name."""
    return _SEARCH.search(query) is not None
