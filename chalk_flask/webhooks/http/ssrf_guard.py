"""Where webhooks may go: https to public addresses, and elsewhere only where the operator allows it.

A URL is judged when it is registered and before each attempt, and the addresses of its name at every new connection,
for the answer of a resolver may change. What is connected to is an address that was checked, never the name again.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

from chalk_flask.settings.host_allowlist import (
    Address,
    Host,
    HostAllowlist,
    InvalidAllowlistEntryError,
    InvalidHostError,
    embedded_ipv4,
    parse_authority,
)

__all__ = [
    "LONGEST",
    "ForbiddenTargetError",
    "InvalidAllowlistEntryError",
    "ResolutionError",
    "SsrfGuard",
    "TargetUrl",
    "is_public",
    "resolve",
]

LONGEST: Final = 2000
"""The most characters that the URL of a webhook may have."""

_PORTS = {"https": 443, "http": 80}
_LOCAL = re.compile(r"(?:.*\.)?(?:localhost|localdomain|local|internal|home\.arpa)|[^.]*")

# Said here, as Python's own list differs from one version to the next.
_SPECIAL4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # shared by the customers of a provider
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local, and where clouds keep their metadata
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
)
_GLOBAL6 = IPv6Network("2000::/3")
_SPECIAL6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # Teredo and other assignments of the IETF
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
    )
)


class ForbiddenTargetError(Exception):
    """Webhooks may not go there; the message says why, and holds nothing of the path or query of the URL."""


class ResolutionError(Exception):
    """The addresses of a host cannot be had now; this says nothing about later."""


@dataclass(frozen=True, slots=True)
class TargetUrl:
    """A URL that will do: `url` in ASCII, and its parts. `authority` is for Host, `path` includes the query."""

    url: str
    scheme: str
    host: Host
    port: int
    authority: str
    path: str

    @property
    def hostname(self) -> str:
        """The host as text, for SNI and the certificate: an IPv6 address has no brackets."""
        return str(self.host)


def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a host as the system knows them, in its order. Raises OSError; takes as long as it takes."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public(address: Address) -> bool:
    """Whether an address, or the IPv4 address that it carries, is one of the public internet."""
    address = embedded_ipv4(address)
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL4)
    return address in _GLOBAL6 and not any(address in network for network in _SPECIAL6)


class SsrfGuard:
    """Judges URLs and the addresses behind them. Safe for many threads at once if `resolve` is.

    `allowed` are the hosts, `host:port`, addresses and networks to which webhooks may go although they are private or
    speak plain http; raises InvalidAllowlistEntryError for another entry. `resolve` gives the addresses of a name, or raises OSError.
    """

    def __init__(self, allowed: Iterable[str] = (), resolve: Callable[[str, int], Iterable[str]] = resolve) -> None:
        self._allowed, self._resolve = HostAllowlist.parse(allowed), resolve

    def check_url(self, url: str) -> TargetUrl:
        """The parts of a URL to which webhooks may go, as far as that can be said without resolving its name.

        Raises ForbiddenTargetError.
        """
        parts = _split(url)
        try:
            host, given = parse_authority(parts.netloc)
        except InvalidHostError as error:
            raise ForbiddenTargetError(f"the URL will not do: {error}") from error
        port = given or _PORTS[parts.scheme]
        self._judge(parts.scheme, host, port)
        shown = f"[{host}]" if ":" in str(host) else str(host)
        authority = shown if port == _PORTS[parts.scheme] else f"{shown}:{port}"
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return TargetUrl(f"{parts.scheme}://{authority}{path}", parts.scheme, host, port, authority, path)

    def resolve_target(self, target: TargetUrl) -> list[tuple[str, int]]:
        """The addresses and ports to which a connection may go, resolved now; there is one at least.

        Raises ForbiddenTargetError when one of them is not public and not allowed, Unresolved when there are none.
        """
        named = self._allowed.allows(target.host, target.port)
        found = self._found(target)
        for address in found:
            if not (named or is_public(address) or self._allowed.allows(address, target.port)):
                raise ForbiddenTargetError(f"{target.hostname} has the address {address}, which is not public{_ALLOW}")
        return [(str(address), target.port) for address in found]

    def _found(self, target: TargetUrl) -> list[Address]:
        if not isinstance(target.host, str):
            return [target.host]
        try:
            found = [ip_address(text) for text in self._resolve(target.host, target.port)]
        except (OSError, ValueError) as error:
            raise ResolutionError(f"{target.host} cannot be resolved") from error
        if not found:
            raise ResolutionError(f"{target.host} has no address")
        return found

    def _judge(self, scheme: str, host: Host, port: int) -> None:
        if self._allowed.allows(host, port):
            return
        if not isinstance(host, str) and not is_public(host):
            raise ForbiddenTargetError(f"the address {host} is not public{_ALLOW}")
        if isinstance(host, str) and _LOCAL.fullmatch(host):
            raise ForbiddenTargetError(f"{host} is a name of a local network, not of the public internet{_ALLOW}")
        if scheme != "https":
            raise ForbiddenTargetError(f"{host} is spoken to by https only{_ALLOW}")


_ALLOW = " (the setting webhook_allowed_hosts can allow it)"


def _split(url: str) -> SplitResult:
    """The parts of a URL whose form is right; its host is still as it was written."""
    if len(url) > LONGEST:
        raise ForbiddenTargetError(f"the URL has {len(url)} characters, and {LONGEST} are the most")
    if re.search(r"[\x00-\x20\x7f\\]", url):
        raise ForbiddenTargetError("the URL holds a blank, a control character or a backslash")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ForbiddenTargetError("this is not a URL such as https://tool.example.org/hooks") from error
    if parts.scheme not in _PORTS or not parts.netloc:
        raise ForbiddenTargetError("a URL such as https://tool.example.org/hooks is needed: https:// and a host")
    if "@" in parts.netloc:
        raise ForbiddenTargetError("the URL holds a user or a password: leave them out, deliveries are signed")
    if "#" in url:
        raise ForbiddenTargetError("the URL has a fragment (#...), which is never sent: leave it out")
    if not (parts.path + parts.query).isascii():
        raise ForbiddenTargetError("the path or query of the URL is not ASCII: percent-encode it")
    return parts
