"""Strict parser of host names and addresses, and the allowlist of hosts that an operator configures."""

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
"""Address, or name in lower-case ASCII without a dot at its end."""

_AUTHORITY = re.compile(r"(?:\[(?P<six>[^\[\]]*)\]|(?P<host>[^\[\]:]*))(?P<port>:[0-9]*)?")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_MAX_NAME_LENGTH = 253

_NAT64 = IPv6Network("64:ff9b::/96")
_SIX_TO_FOUR = IPv6Network("2002::/16")


class InvalidHostError(ValueError):
    """Invalid or ambiguous host; the message quotes it and contains the reason."""


class InvalidAllowlistEntryError(ValueError):
    """Invalid entry of an allowlist; the message quotes it and contains the reason."""


@dataclass(frozen=True, slots=True)
class HostAllowlist:
    """Allowed hosts and networks. A host has one port, or None for all ports."""

    hosts: frozenset[tuple[Host, int | None]] = frozenset()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    @classmethod
    def parse(cls, entries: Iterable[str]) -> HostAllowlist:
        """Return the allowlist of these entries; blank entries are ignored. Raises InvalidAllowlistEntryError.

        Entries are written like `hooks.lan`, `hooks.lan:8080`, `10.0.0.7`, `[fd00::1]:8080` or `10.0.0.0/8`.
        """
        hosts, networks = set(), []
        for entry in filter(None, map(str.strip, entries)):
            if "/" in entry:
                networks.append(_parse_network(entry))
            else:
                hosts.add(_parse_entry(entry))
        return cls(frozenset(hosts), tuple(networks))

    def allows(self, host: Host, port: int) -> bool:
        """Return True if an entry allows this host at this port. A name is not looked up."""
        if not isinstance(host, str):
            host = embedded_ipv4(host)
            if any(host in network for network in self.networks):
                return True
        return (host, port) in self.hosts or (host, None) in self.hosts


def validate_allowlist(value: str) -> str | None:
    """Return None for a valid comma-separated allowlist, otherwise the rule that continues "it must be"."""
    try:
        HostAllowlist.parse(value.split(","))
    except InvalidAllowlistEntryError as error:
        return f"a comma-separated list of hosts, host:port, addresses or networks: {error}"
    return None


def parse_authority(text: str) -> tuple[Host, int | None]:
    """Return host and port (None if missing) of `host`, `host:port`, `[IPv6]` or `[IPv6]:port`.

    Names are returned in ASCII. Raises InvalidHostError for an invalid text, and for a text that another
    program may parse differently. Examples are numbers other than four decimal ones, escapes, zones, look-alikes of
    letters and dots, and a dot at the end.
    """
    parts = _AUTHORITY.fullmatch(text)
    if parts is None:
        raise InvalidHostError(f"{text!r} is not a host or host:port; put an IPv6 address in brackets")
    host = _parse_ipv6(parts["six"]) if parts["six"] is not None else _parse_host(parts["host"])
    return host, None if parts["port"] is None else _parse_port(parts["port"][1:])


def embedded_ipv4(address: Address) -> Address:
    """Return the IPv4 address within an IPv6 address (mapped, NAT64, 6to4), or else the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _SIX_TO_FOUR:
        return IPv4Address(int(address) >> 80 & 0xFFFFFFFF)
    return address


def _parse_port(digits: str) -> int:
    if not digits or len(digits) > 5 or not 1 <= int(digits) <= 65535:
        raise InvalidHostError(f"invalid port {digits!r}: ports are 1 to 65535")
    return int(digits)


def _parse_ipv6(text: str) -> IPv6Address:
    try:
        address = IPv6Address(text)
    except ValueError:
        address = None
    if address is None or address.scope_id is not None:
        raise InvalidHostError(f"{text!r} is not an IPv6 address without a zone")
    return address


def _parse_host(text: str) -> Host:
    if not text:
        raise InvalidHostError("the host is missing")
    if "%" in text:
        raise InvalidHostError(f"the host {text!r} contains escapes: write it without them")
    name = (text if text.isascii() else _to_ascii(text)).lower()
    if name.endswith("."):
        raise InvalidHostError(f"the host {text!r} ends with a dot: remove it")
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        return _parse_ipv4(name)
    if len(name) > _MAX_NAME_LENGTH or not all(map(_LABEL.fullmatch, name.split("."))):
        raise InvalidHostError(f"{text!r} is not a host name: use letters, digits, hyphens and dots")
    return name


def _parse_ipv4(text: str) -> IPv4Address:
    try:
        return IPv4Address(text)
    except ValueError:
        raise InvalidHostError(
            f"{text!r} is not an IPv4 address: write four decimal numbers, for example 192.0.2.1"
        ) from None


def _to_ascii(text: str) -> str:
    # Only reversible forms: full-width digits, ideographic dots and sharp s would change.
    normalized = unicodedata.normalize("NFC", text.lower())
    try:
        ascii_form = normalized.encode("idna")
        is_reversible = ascii_form.decode("idna") == normalized
    except UnicodeError:
        is_reversible = False
    if not is_reversible:
        raise InvalidHostError(
            f"the host {text!r} contains letters that are not allowed: write its ASCII form (xn--...)"
        )
    return ascii_form.decode("ascii")


def _parse_entry(entry: str) -> tuple[Host, int | None]:
    try:
        # An IPv6 address needs its brackets only before a port.
        host, port = parse_authority(f"[{entry}]" if entry.count(":") > 1 and "[" not in entry else entry)
    except InvalidHostError as error:
        raise InvalidAllowlistEntryError(f"invalid entry {entry!r}: {error}") from error
    return host if isinstance(host, str) else embedded_ipv4(host), port


def _parse_network(entry: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(entry)
    except ValueError as error:
        hint = "; write the host alone, without https://" if "://" in entry else f": {error}"
        raise InvalidAllowlistEntryError(f"{entry!r} is not a network such as 10.0.0.0/8{hint}") from error
