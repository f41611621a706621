"""E-mail addresses, senders and hosts of mail servers."""

from __future__ import annotations

import pytest

from chalk_flask.settings.mail_rules import is_mail_address, parse_sender, validate_mail_host, validate_sender

VALID = ["a@b", "it.office+roster@example.org", "o'brien@xn--mnchen-3ya.example", "x" * 64 + "@example.org"]
INVALID = [
    *("", "a", "@example.org", "a@", "a@@b", "a b@example.org", "a@exa mple.org", ".a@b", "a.@b", "a..b@c", "a@-b"),
    *("a@b.", "a@.b", "ü@example.org", "a@ünchen.example", "x" * 65 + "@example.org", "a@" + "b" * 64, "a@b\n"),
    *("a@b\r\nBcc: c@d", "a@b,c@d", "a@b;c@d", "<a@b>", '"a b"@c', "a@b (c)", "a@b\x00", "a@[127.0.0.1]", "a\t@b"),
    "a@" + ".".join(["b" * 60] * 5),
]


@pytest.mark.parametrize("address", VALID)
def test_valid_address_is_accepted(address: str) -> None:
    assert is_mail_address(address)
    assert parse_sender(address) == ("", address)
    assert parse_sender(f"Roster of the district <{address}>") == ("Roster of the district", address)


@pytest.mark.parametrize("address", INVALID)
def test_invalid_address_is_rejected(address: str) -> None:
    assert not is_mail_address(address)
    assert not address or validate_sender(address)
    assert parse_sender(f"Roster <{address}>") is None


@pytest.mark.parametrize("name", ["", "a\nBcc: c@d", "a\rb", "a\x00b", "a\u2028b", '"a"', "a, b", "x" * 101])
def test_name_of_a_sender_cannot_end_a_header(name: str) -> None:
    assert validate_sender(f"{name} <a@b>") is not None


@pytest.mark.parametrize("host", ["", "localhost", "mail.example.org", "192.0.2.1", "2001:db8::1"])
def test_valid_host_is_accepted(host: str) -> None:
    assert validate_mail_host(host) is None


@pytest.mark.parametrize("host", ["mail.example.org:25x", "smtp://mail", "a b", "mail\r\nEHLO x", "-a", "user@host"])
def test_invalid_host_is_rejected(host: str) -> None:
    assert validate_mail_host(host) is not None
