"""One-time codes: time-based ones are valid once, within a step of the clock."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest

from chalk_flask.admins.totp import (
    generate_recovery_codes,
    hash_recovery_code,
    new_totp_secret,
    provisioning_uri,
    verify_code,
)
from tests.support.clock import FakeClock

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


def code_at(clock: FakeClock, steps: int = 0) -> str:
    return pyotp.TOTP(SECRET).at(clock.now, counter_offset=steps)


def test_code_of_a_neighboring_step_is_accepted(clock: FakeClock) -> None:
    current = verify_code(SECRET, code_at(clock), clock.now, None)
    assert current is not None
    for steps in (-1, 1):
        assert verify_code(SECRET, code_at(clock, steps), clock.now, None) == current + steps
    for steps in (-2, 2):
        assert verify_code(SECRET, code_at(clock, steps), clock.now, None) is None


def test_code_is_accepted_once_and_earlier_ones_never(clock: FakeClock) -> None:
    step = verify_code(SECRET, code_at(clock), clock.now, None)
    for steps in (-1, 0):
        assert verify_code(SECRET, code_at(clock, steps), clock.now, step) is None
    clock.advance(30)
    assert verify_code(SECRET, code_at(clock, -1), clock.now, step) is None
    assert verify_code(SECRET, code_at(clock), clock.now, step) is not None


def test_blanks_in_a_code_are_ignored(clock: FakeClock) -> None:
    code = code_at(clock)
    assert verify_code(SECRET, f" {code[:3]} {code[3:]}\n", clock.now, None) is not None


@pytest.mark.parametrize("code", ["", "12345", "1234567", "12345a", "１２３４５６", "\udc80" * 6, "9" * 100_000])
def test_text_that_is_no_code_is_rejected(code: str, clock: FakeClock) -> None:
    assert verify_code(SECRET, code, clock.now, None) is None


@pytest.mark.parametrize("secret", ["", "no base 32", "A" * 31, "a" * 32, "1" * 32])
def test_text_that_is_no_secret_is_rejected(secret: str, clock: FakeClock) -> None:
    assert verify_code(secret, "123456", clock.now, None) is None


def test_uri_names_service_administrator_and_secret() -> None:
    secret = new_totp_secret()
    assert secret != new_totp_secret()
    uri = urlsplit(provisioning_uri(secret, "kim@example.org"))
    assert (uri.scheme, uri.netloc, uri.path) == ("otpauth", "totp", "/Chalk%20Flask:kim%40example.org")
    assert parse_qs(uri.query) == {"secret": [secret], "issuer": ["Chalk Flask"]}


def test_recovery_codes_are_hashed_regardless_of_their_notation() -> None:
    codes = generate_recovery_codes()
    assert len(set(codes)) == 10
    hashed = hash_recovery_code(codes[0])
    assert codes[0] not in hashed
    assert hash_recovery_code(codes[0].upper().replace("-", " ")) == hashed
    assert hash_recovery_code(codes[1]) != hashed
    assert hash_recovery_code("\udc80" * 100_000)
