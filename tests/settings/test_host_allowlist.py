"""Host allowlist: strict parsing of hosts, and the targets that entries allow."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from chalk_flask.settings.host_allowlist import (
    HostAllowlist,
    InvalidAllowlistEntryError,
    InvalidHostError,
    embedded_ipv4,
    parse_authority,
    validate_allowlist,
)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("Hooks.Example.org", "hooks.example.org", None),
        ("hooks.lan:8080", "hooks.lan", 8080),
        ("192.0.2.1:1", ip_address("192.0.2.1"), 1),
        ("[2001:db8::1]", ip_address("2001:db8::1"), None),
        ("[2001:db8::1]:65535", ip_address("2001:db8::1"), 65535),
        ("münchen.example", "xn--mnchen-3ya.example", None),
    ],
)
def test_parse_authority_returns_host_and_port(text: str, host: object, port: int | None) -> None:
    assert parse_authority(text) == (host, port)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the host is missing"),
        ("a b", "is not a host name"),
        ("a:b:c", "is not a host or host:port"),
        ("host:0", "invalid port '0'"),
        ("host:65536", "invalid port '65536'"),
        ("host:", "invalid port ''"),
        ("host.", "ends with a dot"),
        ("ho%73t", "contains escapes"),
        ("127.1", "is not an IPv4 address"),
        ("0x7f000001", "is not an IPv4 address"),
        ("[fe80::1%eth0]", "is not an IPv6 address without a zone"),
        ("straße.example", "contains letters that are not allowed"),
        ("-a.example", "is not a host name"),
        ("a" * 254, "is not a host name"),
    ],
)
def test_parse_authority_rejects_invalid_and_ambiguous_hosts(text: str, reason: str) -> None:
    with pytest.raises(InvalidHostError, match=reason):
        parse_authority(text)


def test_allowlist_allows_hosts_ports_and_networks() -> None:
    allowlist = HostAllowlist.parse(["hooks.lan", "other.lan:8080", " ", "10.0.0.0/8", "fd00::1", "[fd00::2]:443"])
    assert allowlist.allows("hooks.lan", 1)
    assert allowlist.allows("other.lan", 8080)
    assert not allowlist.allows("other.lan", 80)
    assert allowlist.allows(ip_address("10.1.2.3"), 80)
    assert allowlist.allows(ip_address("::ffff:10.1.2.3"), 80)
    assert not allowlist.allows(ip_address("11.1.2.3"), 80)
    assert allowlist.allows(ip_address("fd00::1"), 80)
    assert allowlist.allows(ip_address("fd00::2"), 443)
    assert not allowlist.allows(ip_address("fd00::2"), 80)


@pytest.mark.parametrize("entry", ["10.0.0.1/8", "https://hooks.lan/", "host:0"])
def test_allowlist_rejects_an_invalid_entry_and_quotes_it(entry: str) -> None:
    with pytest.raises(InvalidAllowlistEntryError, match=f"{entry}'"):
        HostAllowlist.parse([entry])
    assert entry in (validate_allowlist(entry) or "")


def test_validate_allowlist_accepts_an_empty_text() -> None:
    assert validate_allowlist("") is None


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("64:ff9b::192.0.2.1", "192.0.2.1"),
        ("2002:c000:201::1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_embedded_ipv4_finds_the_address_of_translated_networks(address: str, expected: str) -> None:
    assert embedded_ipv4(ip_address(address)) == ip_address(expected)
