"""Signatures: a receiver with the secret can verify origin, content and age of a delivery."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from chalk_flask.webhooks.http.signature import new_secret, signed_headers

BODY = json.dumps({"event_type": "user.updated", "name": "Zoë 学校 🎒"}, ensure_ascii=False).encode()
NEW, OLD = new_secret(), new_secret()


def headers(
    *secrets: str, sent_at: datetime | None = None, body: bytes = BODY, event: str = "evt_1", webhook: str = "wh_1"
) -> dict[str, str]:
    return signed_headers(secrets or (NEW,), event, webhook, sent_at or datetime.now(UTC), body)


def is_valid_signature(secret: str, body: bytes, signed: dict[str, str]) -> bool:
    try:
        return bool(Webhook(secret).verify(body, signed) == json.loads(body))
    except WebhookVerificationError:
        return False


def is_valid_chalk_signature(secret: str, body: bytes, signed: dict[str, str]) -> bool:
    expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(signed["X-Chalk-Signature"], f"sha256={expected}")


def test_secret_is_a_prefix_and_32_random_bytes() -> None:
    assert NEW != OLD
    assert NEW.startswith("whsec_")
    assert len(base64.b64decode(NEW.removeprefix("whsec_"), validate=True)) == 32


def test_delivery_verifies_with_the_library_and_both_hmacs() -> None:
    signed = headers()
    assert is_valid_signature(NEW, BODY, signed)
    assert is_valid_chalk_signature(NEW, BODY, signed)
    content = f"evt_1.{signed['webhook-timestamp']}.".encode() + BODY
    expected = hmac.new(base64.b64decode(NEW[6:]), content, hashlib.sha256).digest()
    assert signed["webhook-signature"] == f"v1,{base64.b64encode(expected).decode()}"


def test_both_secrets_verify_during_a_rotation() -> None:
    signed = headers(NEW, OLD)
    assert is_valid_signature(NEW, BODY, signed)
    assert is_valid_signature(OLD, BODY, signed)
    assert len(signed["webhook-signature"].split(" ")) == 2
    assert is_valid_chalk_signature(NEW, BODY, signed)
    assert not is_valid_chalk_signature(OLD, BODY, signed)


def test_ended_secret_does_not_verify() -> None:
    signed = headers(NEW)
    assert not is_valid_signature(OLD, BODY, signed)
    assert not is_valid_chalk_signature(OLD, BODY, signed)


@pytest.mark.parametrize("index", [2, len(BODY) // 2, len(BODY) - 2])
def test_changed_byte_does_not_verify(index: int) -> None:
    changed = BODY[:index] + bytes([BODY[index] ^ 1]) + BODY[index + 1 :]
    signed = headers()
    with pytest.raises((WebhookVerificationError, UnicodeDecodeError)):
        Webhook(NEW).verify(changed, signed)
    assert not is_valid_chalk_signature(NEW, changed, signed)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp"])
def test_changed_id_or_timestamp_does_not_verify(name: str) -> None:
    signed = headers()
    other = {"webhook-id": "evt_2", "webhook-timestamp": str(int(signed["webhook-timestamp"]) + 1)}
    assert not is_valid_signature(NEW, BODY, signed | {name: other[name]})


@pytest.mark.parametrize("minutes", [-6, 6])
def test_old_or_future_timestamp_does_not_verify(minutes: int) -> None:
    signed = headers(sent_at=datetime.now(UTC) + timedelta(minutes=minutes))
    with pytest.raises(WebhookVerificationError, match="too"):
        Webhook(NEW).verify(BODY, signed)


def test_timestamp_is_sent_in_utc() -> None:
    sent_at = datetime(2026, 3, 1, 23, 30, 15, 987654, tzinfo=timezone(timedelta(hours=-7)))
    signed = headers(sent_at=sent_at)
    assert signed["X-Chalk-Timestamp"] == "2026-03-02T06:30:15.987Z"
    assert signed["webhook-timestamp"] == str(int(sent_at.timestamp()))
    now = datetime.now(timezone(timedelta(hours=9)))
    assert is_valid_signature(NEW, BODY, headers(sent_at=now))


def test_chalk_headers_contain_event_webhook_and_mode() -> None:
    signed = headers(event="evt_7", webhook="wh_9")
    assert signed["webhook-id"] == signed["X-Chalk-Event-Id"] == "evt_7"
    assert signed["X-Chalk-Webhook-Id"] == "wh_9"
    assert signed["X-Chalk-Security-Mode"] == "sign_only"
    assert signed["Content-Type"] == "application/json"
    assert signed["User-Agent"].startswith("Chalk-Flask")
    assert not [value for value in signed.values() if NEW in value]


def test_retry_differs_in_timestamps_and_signature_only() -> None:
    now = datetime.now(UTC)
    first, second = headers(sent_at=now - timedelta(seconds=5)), headers(sent_at=now)
    same = {name for name in first if first[name] == second[name]}
    assert set(first) - same == {"webhook-timestamp", "webhook-signature", "X-Chalk-Timestamp"}
