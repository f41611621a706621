"""Who has a secret of a webhook can tell that a delivery is from us, unchanged and of now."""

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
    *secrets: str, moment: datetime | None = None, body: bytes = BODY, event: str = "evt_1", webhook: str = "wh_1"
) -> dict[str, str]:
    return signed_headers(secrets or (NEW,), event, webhook, moment or datetime.now(UTC), body)


def verified(secret: str, body: bytes, signed: dict[str, str]) -> bool:
    try:
        return bool(Webhook(secret).verify(body, signed) == json.loads(body))
    except WebhookVerificationError:
        return False


def chalk_verified(secret: str, body: bytes, signed: dict[str, str]) -> bool:
    made = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(signed["X-Chalk-Signature"], f"sha256={made}")


def test_a_secret_is_32_random_bytes_behind_a_prefix() -> None:
    assert NEW != OLD
    assert NEW.startswith("whsec_")
    assert len(base64.b64decode(NEW.removeprefix("whsec_"), validate=True)) == 32


def test_a_delivery_verifies_with_the_package_and_by_both_documented_hmacs() -> None:
    signed = headers()
    assert verified(NEW, BODY, signed)
    assert chalk_verified(NEW, BODY, signed)
    content = f"evt_1.{signed['webhook-timestamp']}.".encode() + BODY
    made = hmac.new(base64.b64decode(NEW[6:]), content, hashlib.sha256).digest()
    assert signed["webhook-signature"] == f"v1,{base64.b64encode(made).decode()}"


def test_during_a_rotation_both_secrets_verify_and_chalks_own_signature_is_by_the_newest() -> None:
    signed = headers(NEW, OLD)
    assert verified(NEW, BODY, signed)
    assert verified(OLD, BODY, signed)
    assert len(signed["webhook-signature"].split(" ")) == 2
    assert chalk_verified(NEW, BODY, signed)
    assert not chalk_verified(OLD, BODY, signed)


def test_a_secret_that_was_rotated_out_does_not_verify() -> None:
    signed = headers(NEW)
    assert not verified(OLD, BODY, signed)
    assert not chalk_verified(OLD, BODY, signed)


@pytest.mark.parametrize("place", [2, len(BODY) // 2, len(BODY) - 2])
def test_a_changed_byte_does_not_verify(place: int) -> None:
    changed = BODY[:place] + bytes([BODY[place] ^ 1]) + BODY[place + 1 :]
    signed = headers()
    with pytest.raises((WebhookVerificationError, UnicodeDecodeError)):
        Webhook(NEW).verify(changed, signed)
    assert not chalk_verified(NEW, changed, signed)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp"])
def test_what_is_signed_beside_the_body_cannot_be_changed(name: str) -> None:
    signed = headers()
    other = {"webhook-id": "evt_2", "webhook-timestamp": str(int(signed["webhook-timestamp"]) + 1)}
    assert not verified(NEW, BODY, signed | {name: other[name]})


@pytest.mark.parametrize("minutes", [-6, 6])
def test_an_old_timestamp_and_one_of_the_future_do_not_verify(minutes: int) -> None:
    signed = headers(moment=datetime.now(UTC) + timedelta(minutes=minutes))
    with pytest.raises(WebhookVerificationError, match="too"):
        Webhook(NEW).verify(BODY, signed)


def test_the_moment_may_be_of_any_zone_and_is_told_in_utc() -> None:
    moment = datetime(2026, 3, 1, 23, 30, 15, 987654, tzinfo=timezone(timedelta(hours=-7)))
    signed = headers(moment=moment)
    assert signed["X-Chalk-Timestamp"] == "2026-03-02T06:30:15.987Z"
    assert signed["webhook-timestamp"] == str(int(moment.timestamp()))
    now = datetime.now(timezone(timedelta(hours=9)))
    assert verified(NEW, BODY, headers(moment=now))


def test_chalks_headers_name_the_event_the_webhook_and_the_mode() -> None:
    signed = headers(event="evt_7", webhook="wh_9")
    assert signed["webhook-id"] == signed["X-Chalk-Event-Id"] == "evt_7"
    assert signed["X-Chalk-Webhook-Id"] == "wh_9"
    assert signed["X-Chalk-Security-Mode"] == "sign_only"
    assert signed["Content-Type"] == "application/json"
    assert signed["User-Agent"].startswith("Chalk-Flask")
    assert not [value for value in signed.values() if NEW in value]


def test_another_attempt_has_another_timestamp_and_the_same_id_and_chalk_signature() -> None:
    now = datetime.now(UTC)
    first, second = headers(moment=now - timedelta(seconds=5)), headers(moment=now)
    same = {name for name in first if first[name] == second[name]}
    assert set(first) - same == {"webhook-timestamp", "webhook-signature", "X-Chalk-Timestamp"}
