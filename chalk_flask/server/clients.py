"""Keys of clients by which connections and running requests are counted: their address and their credential.

The server needs them before a request is authenticated. A request with an invalid credential counts too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from chalk_flask.addresses import client_network

__all__ = ["ClientAddresses", "credential_key"]

_CONSUMER_KEY = re.compile(r'oauth_consumer_key="([^"]*)"')


class ClientAddresses:
    """Addresses of clients, which a trusted proxy forwards."""

    def __init__(self, trusted_proxy: str) -> None:
        self._trusted_proxy = trusted_proxy

    def is_proxy(self, peer: str) -> bool:
        """Return True if the other end of a connection is the trusted proxy, which has many clients."""
        return bool(self._trusted_proxy) and self._trusted_proxy in ("*", peer)

    def network(self, peer: str, headers: Mapping[str, str]) -> str:
        """Return the address of the client of a request; of an IPv6 address, the network."""
        forwarded = headers.get("X_FORWARDED_FOR") if self.is_proxy(peer) else None
        return client_network(_last_address(forwarded) if forwarded else peer)


def _last_address(forwarded: str) -> str:
    """Return the last address of an X-Forwarded-For header, without port and brackets."""
    address = forwarded.rpartition(",")[2].strip().strip('"')
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address


def credential_key(headers: Mapping[str, str]) -> str:
    """Return a text that is the same for all requests with one token, or signed by one OAuth 1.0a client."""
    authorization = headers.get("AUTHORIZATION", "")
    if authorization[:5].lower() == "oauth" and (match := _CONSUMER_KEY.search(authorization)):
        return f"OAuth {match[1]}"
    return authorization
