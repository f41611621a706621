"""Names and addresses of hosts, read strictly from text, and those of them that an operator allows."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import TypeAlias

__all__ = [
    "Address",
    "Host",
    "HostAllowlist",
    "InvalidAllowlistEntryError",
    "InvalidHostError",
    "embedded_ipv4",
    "parse_authority",
    "validate_allowlist",
]

Address: TypeAlias = IPv4Address | IPv6Address
Host: TypeAlias = str | Address
"""An address, or a name in lower-case ASCII without a dot at its end."""

_AUTHORITY = re.compile(r"(?:\[(?P<six>[^\[\]]*)\]|(?P<host>[^\[\]:]*))(?P<port>:[0-9]*)?")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LONGEST = 253

_NAT64 = IPv6Network("64:ff9b::/96")
_SIX_TO_FOUR = IPv6Network("2002::/16")


class InvalidHostError(ValueError):
    """A text names no host in a way that leaves no doubt; the message says why."""


class InvalidAllowlistEntryError(ValueError):
    """An entry of the hosts that are allowed will not do; the message names it and says why."""


@dataclass(frozen=True, slots=True)
class HostAllowlist:
    """The hosts that an operator allows, each at one port or (None) at every port, and whole networks."""

    hosts: frozenset[tuple[Host, int | None]] = frozenset()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    @classmethod
    def parse(cls, entries: Iterable[str]) -> HostAllowlist:
        """What entries such as `hooks.lan`, `hooks.lan:8080`, `10.0.0.7`, `[fd00::1]:8080` and `10.0.0.0/8` allow.

        Blank entries do not count. Raises InvalidAllowlistEntryError.
        """
        hosts, networks = set(), []
        for entry in filter(None, map(str.strip, entries)):
            if "/" in entry:
                networks.append(_network(entry))
            else:
                hosts.add(_host(entry))
        return cls(frozenset(hosts), tuple(networks))

    def allows(self, host: Host, port: int) -> bool:
        """Whether this host is allowed by itself at this port; a name is not allowed because its address is."""
        if not isinstance(host, str):
            host = embedded_ipv4(host)
            if any(host in network for network in self.networks):
                return True
        return (host, port) in self.hosts or (host, None) in self.hosts


def validate_allowlist(value: str) -> str | None:
    """Nothing, or hosts and networks with commas between them; otherwise what is wrong, after "it must be"."""
    try:
        HostAllowlist.parse(value.split(","))
    except InvalidAllowlistEntryError as error:
        return f"hosts, host:port, addresses or networks, with commas between them: {error}"
    return None


def parse_authority(text: str) -> tuple[Host, int | None]:
    """The host, and the port if there is one, of `host`, `host:port`, `[IPv6]` or `[IPv6]:port`. Raises InvalidHostError.

    A name comes in ASCII. Refused is what one program may take for an address and the next for a name: numbers that are
    not four plain decimal ones, escapes, zones, letters and dots that stand for others, dots at the end.
    """
    parts = _AUTHORITY.fullmatch(text)
    if parts is None:
        raise InvalidHostError(f"{text!r} is not a host, alone or with a port; an IPv6 address stands in brackets")
    host = _address6(parts["six"]) if parts["six"] is not None else _named(parts["host"])
    return host, None if parts["port"] is None else _port(parts["port"][1:])


def embedded_ipv4(address: Address) -> Address:
    """The IPv4 address that one of IPv6 carries (mapped, NAT64, 6to4), or the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _SIX_TO_FOUR:
        return IPv4Address(int(address) >> 80 & 0xFFFFFFFF)
    return address


def _port(digits: str) -> int:
    # More digits than this are zeros, or too much in any case.
    if not digits or len(digits) > 5 or not 1 <= int(digits) <= 65535:
        raise InvalidHostError(f"the port {digits!r} is none: ports are 1 to 65535")
    return int(digits)


def _address6(text: str) -> IPv6Address:
    try:
        address = IPv6Address(text)
    except ValueError:
        address = None
    if address is None or address.scope_id is not None:
        raise InvalidHostError(f"{text!r} in brackets is not an IPv6 address without a zone")
    return address


def _named(text: str) -> Host:
    if not text:
        raise InvalidHostError("there is no host")
    if "%" in text:
        raise InvalidHostError(f"the host {text!r} has escapes: write it plainly")
    name = (text if text.isascii() else _encoded(text)).lower()
    if name.endswith("."):
        raise InvalidHostError(f"the host {text!r} ends with a dot: leave it out")
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        return _address4(name)
    if len(name) > _LONGEST or not all(map(_LABEL.fullmatch, name.split("."))):
        raise InvalidHostError(f"{text!r} is not the name of a host: letters, digits, hyphens and dots make one")
    return name


def _address4(text: str) -> IPv4Address:
    try:
        return IPv4Address(text)
    except ValueError:
        raise InvalidHostError(
            f"{text!r} is not an IPv4 address: write four decimal numbers, as in 192.0.2.1"
        ) from None


def _encoded(text: str) -> str:
    # Only what comes back the same: full-width digits, ideographic dots and sharp s would become something else.
    plain = unicodedata.normalize("NFC", text.lower())
    try:
        ascii_form = plain.encode("idna")
        same = ascii_form.decode("idna") == plain
    except UnicodeError:
        same = False
    if not same:
        raise InvalidHostError(
            f"the host {text!r} has letters that cannot stand in a name; write its ASCII form (xn--...)"
        )
    return ascii_form.decode("ascii")


def _host(entry: str) -> tuple[Host, int | None]:
    try:
        # An IPv6 address needs its brackets only before a port.
        host, port = parse_authority(f"[{entry}]" if entry.count(":") > 1 and "[" not in entry else entry)
    except InvalidHostError as error:
        raise InvalidAllowlistEntryError(f"{entry!r} allows nothing: {error}") from error
    return host if isinstance(host, str) else embedded_ipv4(host), port


def _network(entry: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(entry)
    except ValueError as error:
        said = "; write the host alone, without https://" if "://" in entry else f": {error}"
        raise InvalidAllowlistEntryError(f"{entry!r} is not a network such as 10.0.0.0/8{said}") from error
