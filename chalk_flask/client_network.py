"""Networks by which clients are counted."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

__all__ = ["client_network"]


@lru_cache(maxsize=4096)
def client_network(address: str | None) -> str:
    """Return an IPv4 address unchanged and an IPv6 address as its /64 network, which one client can use as a whole."""
    if not address or ":" not in address:
        return address or "unknown"
    try:
        ipv6 = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(ipv6.ipv4_mapped or ipaddress.IPv6Network((int(ipv6) >> 64 << 64, 64)))
