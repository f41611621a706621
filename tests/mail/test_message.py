"""Messages: no text of a store can add a header or a line."""

from __future__ import annotations

import pytest

from chalk_flask.mail import MailServerSettings
from chalk_flask.mail.message import build_notice_message
from chalk_flask.notices import DIGEST, NOTICE_EVENTS, Notice, Recipient
from tests.support.mail.mail_server import SENDER

HOSTILE = "north\r\nBcc: all@example.org\r\n\r\nbody\x00\u2028"
SERVER = MailServerSettings(
    host="mail.example.org",
    port=587,
    security="starttls",
    user="",
    password="",
    sender_name="Roster",
    sender="roster@example.org",
)
DETAILS = {
    "counts": {"rows": 3, "created": 1},
    "quarantined": 2,
    "problems": 1,
    "expires": "2026-09-08T08:00:00.000Z",
    "reasons": [HOSTILE],
}


@pytest.mark.parametrize("event", NOTICE_EVENTS)
def test_hostile_texts_stay_in_their_line(event: str) -> None:
    notice = Notice(key="1", event=event, created="2026-09-01T08:00:00.000000Z", run=HOSTILE, details=DETAILS)
    message = build_notice_message(SERVER, HOSTILE, notice, Recipient("a-1", "kim@example.org"))
    assert set(message.keys()) >= {"From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"}
    assert message["Bcc"] is None
    assert message["To"] == "kim@example.org"
    assert message["From"] == SENDER
    text = message.as_string()
    assert not [line for line in text.splitlines() if line.startswith(("Bcc", "body"))]
    assert "\x00" not in text
    assert "\u2028" not in text


def test_hostile_digest_stays_in_its_lines() -> None:
    run = {"id": HOSTILE, "started": "2026-09-01T08:00:00.000Z", "state": HOSTILE, "counts": {HOSTILE: 1}}
    details = {"since": "2026-08-31T06:00:00.000Z", "until": "2026-09-01T06:00:00.000Z", "runs": [run], "more": 4}
    notice = Notice(key="1", event=DIGEST, created="2026-09-01T06:00:00.000000Z", run=None, details=details)
    text = build_notice_message(SERVER, "north", notice, Recipient("a-1", "kim@example.org")).as_string()
    assert not [line for line in text.splitlines() if line.startswith(("Bcc", "body"))]
    assert "From 2026-08-31 06:00 UTC to 2026-09-01 06:00 UTC" in text
    assert "- and 4 more" in text


def test_message_without_a_public_url_names_commands_only() -> None:
    notice = Notice(key="1", event="import.held", created="2026-09-01T08:00:00.000000Z", run="run-1", details=DETAILS)
    text = build_notice_message(SERVER, "north", notice, Recipient("a-1", "kim@example.org")).get_content()
    assert "http" not in text
    assert "chalk-flask imports show run-1" in text
    assert "chalk-flask admin mail NAME --off" in text
