"""Mail preferences of administrators."""

from __future__ import annotations

import pytest

from chalk_flask.notices import DEFAULT_EVENTS, DIGEST, NOTICE_EVENTS, MailPreferences, MailPreferencesError
from chalk_flask.outbox.event import IMPORT_COMMITTED, IMPORT_EVENTS, IMPORT_HELD


def test_notices_have_the_events_of_webhooks() -> None:
    assert set(NOTICE_EVENTS) == set(IMPORT_EVENTS)


def test_defaults_are_the_events_that_need_attention() -> None:
    assert MailPreferences.from_dict(None) == MailPreferences("", DEFAULT_EVENTS, digest=False)
    assert set(NOTICE_EVENTS) - set(DEFAULT_EVENTS) == {IMPORT_COMMITTED}


def test_preferences_are_read_as_they_were_stored() -> None:
    preferences = MailPreferences.of(" kim@example.org ", {IMPORT_HELD, IMPORT_COMMITTED}, digest=True)
    assert preferences.address == "kim@example.org"
    assert MailPreferences.from_dict(preferences.to_dict()) == preferences
    assert [event for event in (*NOTICE_EVENTS, DIGEST) if preferences.wants(event)] == [
        IMPORT_COMMITTED,
        IMPORT_HELD,
        DIGEST,
    ]


def test_without_an_address_nothing_is_wanted() -> None:
    preferences = MailPreferences.of("", NOTICE_EVENTS, digest=True)
    assert not any(preferences.wants(event) for event in (*NOTICE_EVENTS, DIGEST))


@pytest.mark.parametrize(
    "address", ["kim", "kim@example.org\nBcc: all@example.org", "kim@example.org, lee@example.org"]
)
def test_invalid_address_is_rejected_without_quoting_it(address: str) -> None:
    with pytest.raises(MailPreferencesError, match="invalid e-mail address") as rejection:
        MailPreferences.of(address, (), digest=False)
    assert "kim" not in str(rejection.value)


def test_unknown_event_is_named() -> None:
    with pytest.raises(MailPreferencesError, match=r"unknown event 'import\.lost': use import\.committed"):
        MailPreferences.of("", ["import.lost"], digest=False)
