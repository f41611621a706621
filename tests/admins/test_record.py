"""Stored form of administrators, and sign-in names."""

from __future__ import annotations

import pytest

from chalk_flask.admins import Administrator, AdministratorError
from chalk_flask.admins.record import parse_name
from tests.support.clock import FakeClock

RECORD = Administrator(
    id="a-1",
    name="kim",
    tenant="default",
    role="editor",
    created=FakeClock().now,
    password_hash="the-hash",
    password_changed=FakeClock().now,
    totp_secret="the-secret",
    totp_last_step=7,
    recovery_codes=("the-code",),
)


def test_administrator_is_read_as_it_was_stored() -> None:
    record = RECORD.to_record()
    assert (record.key, record.values) == ("a-1", {"name": "kim", "tenant": "default"})
    assert Administrator.parse(record.body) == RECORD


def test_shown_form_contains_no_secret() -> None:
    for text in (str(RECORD.to_dict()), repr(RECORD)):
        assert not any(secret in text for secret in ("the-hash", "the-secret", "the-code"))


@pytest.mark.parametrize("name", ["kim", "Kim.Lee@Example.org", " a+b-c_d ", "x" * 64])
def test_valid_name_is_folded(name: str) -> None:
    assert parse_name(name) == name.strip().lower()


@pytest.mark.parametrize("name", ["", "ab", "x" * 65, "kim lee", "kim\nlee", "ümit", "kim/lee", "lone \udc80"])
def test_invalid_name_is_rejected_without_quoting_it(name: str) -> None:
    with pytest.raises(AdministratorError, match="use 3 to 64 letters") as rejection:
        parse_name(name)
    assert not name or name not in str(rejection.value)
