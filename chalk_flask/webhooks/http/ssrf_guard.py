"""Guard against server-side request forgery (SSRF): the targets to which webhooks may be sent.

Allowed are https URLs of public addresses, and the targets in the setting `webhook_allowed_hosts`. The guard checks a
URL at its registration and before each attempt. It checks the addresses of a name for every new connection, because
the response of a resolver may change. The client connects to a checked address, and never resolves the name again.
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
    InvalidHostError,
    embedded_ipv4,
    parse_authority,
)

__all__ = ["ForbiddenTargetError", "ResolutionError", "SsrfGuard", "TargetUrl"]

MAX_URL_LENGTH: Final = 2000

_DEFAULT_PORTS = {"https": 443, "http": 80}
_LOCAL_NAME = re.compile(r"(?:.*\.)?(?:localhost|localdomain|local|internal|home\.arpa)|[^.]*")

# A separate list, because the list in Python's ipaddress differs between versions.
_SPECIAL_IPV4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local, with the metadata services of clouds
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
)
_GLOBAL_IPV6 = IPv6Network("2000::/3")
_SPECIAL_IPV6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # Teredo and other IETF assignments
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
    )
)


class ForbiddenTargetError(Exception):
    """Error for a target to which webhooks must not be sent. The message omits the path and query of the URL."""


class ResolutionError(Exception):
    """Error for a name that cannot be resolved now. A later attempt may succeed."""


@dataclass(frozen=True, slots=True)
class TargetUrl:
    """Allowed URL in ASCII, and its parts. `authority` is the Host header, `path` includes the query."""

    url: str
    scheme: str
    host: Host
    port: int
    authority: str
    path: str

    @property
    def hostname(self) -> str:
        """Host as text for SNI and certificates: an IPv6 address without brackets."""
        return str(self.host)


def resolve(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a name in the order of the system's resolver. Has no time limit. Raises OSError."""
    entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(entry[4][0]) for entry in entries))


def is_public(address: Address) -> bool:
    """Return True if an address, or the IPv4 address embedded in it, belongs to the public internet."""
    address = embedded_ipv4(address)
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_IPV4)
    return address in _GLOBAL_IPV6 and not any(address in network for network in _SPECIAL_IPV6)


class SsrfGuard:
    """Check of URLs and of the addresses behind them. Thread-safe if `resolve` is.

    `allowed` lists hosts, `host:port`, addresses and networks that webhooks may use although they are private or
    plain http. Raises InvalidAllowlistEntryError for an invalid entry. `resolve` returns the addresses of a name or
    raises OSError.
    """

    def __init__(self, allowed: Iterable[str] = (), resolve: Callable[[str, int], Iterable[str]] = resolve) -> None:
        self._allowlist, self._resolve = HostAllowlist.parse(allowed), resolve

    def check_url(self, url: str) -> TargetUrl:
        """Return the parts of an allowed URL, without resolving its name. Raises ForbiddenTargetError."""
        parts = _split(url)
        try:
            host, explicit_port = parse_authority(parts.netloc)
        except InvalidHostError as error:
            raise ForbiddenTargetError(f"invalid URL: {error}") from error
        default_port = _DEFAULT_PORTS[parts.scheme]
        port = explicit_port or default_port
        self._check_host(parts.scheme, host, port)
        bracketed = f"[{host}]" if ":" in str(host) else str(host)
        authority = bracketed if port == default_port else f"{bracketed}:{port}"
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return TargetUrl(f"{parts.scheme}://{authority}{path}", parts.scheme, host, port, authority, path)

    def uses_allowlist(self, url: str) -> bool:
        """Return True if an entry of the allowlist names the host of an allowed URL. Raises ForbiddenTargetError."""
        target = self.check_url(url)
        return self._allowlist.allows(target.host, target.port)

    def resolve_target(self, target: TargetUrl) -> list[tuple[str, int]]:
        """Return the addresses and ports, at least one, to which the client may connect.

        Raises ForbiddenTargetError if any address is neither public nor allowed, and ResolutionError if there is no
        address.
        """
        host_allowed = self._allowlist.allows(target.host, target.port)
        addresses = self._addresses(target)
        for address in addresses:
            if not (host_allowed or is_public(address) or self._allowlist.allows(address, target.port)):
                advice = _advice(target.host, target.port)
                raise ForbiddenTargetError(f"{target.hostname} has the address {address}, which is not public{advice}")
        return [(str(address), target.port) for address in addresses]

    def _addresses(self, target: TargetUrl) -> list[Address]:
        if not isinstance(target.host, str):
            return [target.host]
        try:
            addresses = [ip_address(text) for text in self._resolve(target.host, target.port)]
        except (OSError, ValueError) as error:
            raise ResolutionError(f"{target.host} cannot be resolved") from error
        if not addresses:
            raise ResolutionError(f"{target.host} has no address")
        return addresses

    def _check_host(self, scheme: str, host: Host, port: int) -> None:
        if self._allowlist.allows(host, port):
            return
        advice = _advice(host, port)
        if not isinstance(host, str) and not is_public(host):
            raise ForbiddenTargetError(f"the address {host} is not public{advice}")
        if isinstance(host, str) and _LOCAL_NAME.fullmatch(host):
            raise ForbiddenTargetError(f"{host} is a local network name, not a public one{advice}")
        if scheme != "https":
            raise ForbiddenTargetError(f"plain http to {host} is forbidden: use https{advice}")


_EXAMPLE_URL = "https://tool.example.org/hooks"


def _advice(host: Host, port: int) -> str:
    """Return the end of a message about a forbidden host: the setting that allows it."""
    entry = f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    return (
        "; to allow it, add the host to the setting webhook_allowed_hosts, for example with"
        f" CHALK_WEBHOOK_ALLOWED_HOSTS={entry}"
    )


def _split(url: str) -> SplitResult:
    """Return the parts of a well-formed URL; the host is not checked yet."""
    if len(url) > MAX_URL_LENGTH:
        raise ForbiddenTargetError(f"the URL has {len(url)} characters; the maximum is {MAX_URL_LENGTH}")
    if re.search(r"[\x00-\x20\x7f\\]", url):
        raise ForbiddenTargetError("the URL contains a blank, a control character or a backslash")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ForbiddenTargetError(f"invalid URL: it must look like {_EXAMPLE_URL}") from error
    if parts.scheme not in _DEFAULT_PORTS or not parts.netloc:
        raise ForbiddenTargetError(f"invalid URL: https:// and a host are required, such as {_EXAMPLE_URL}")
    if "@" in parts.netloc:
        raise ForbiddenTargetError("the URL contains a user or a password: remove them, deliveries are signed")
    if "#" in url:
        raise ForbiddenTargetError("the URL contains a fragment (#...), which is never sent: remove it")
    if not (parts.path + parts.query).isascii():
        raise ForbiddenTargetError("the path or query of the URL is not ASCII: percent-encode it")
    return parts
