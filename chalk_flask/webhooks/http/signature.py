"""Signatures of deliveries: Standard Webhooks 1.0.0, and Chalk's own headers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets as randomness
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from standardwebhooks import Webhook

from chalk_flask import __version__

__all__ = ["new_secret", "signed_headers"]

SECRET_PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32


_USER_AGENT = f"Chalk-Flask/{__version__}" if __version__ else "Chalk-Flask"


def new_secret() -> str:
    """Return a new signing secret: `whsec_` and 32 random bytes in base64."""
    return SECRET_PREFIX + base64.b64encode(randomness.token_bytes(SECRET_BYTES)).decode()


def signed_headers(
    secrets: Sequence[str], event_id: str, webhook_id: str, sent_at: datetime, body: bytes
) -> dict[str, str]:
    """Return the headers of one attempt to deliver `body`, which must be UTF-8 text.

    `secrets` starts with the newest secret and must not be empty. Every secret signs `webhook-signature`, so that the
    receiver can verify with any of them. Only the newest signs `X-Chalk-Signature`: HMAC-SHA256 of the body, with the
    whole text of the secret as the key.
    """
    sent_at = sent_at.astimezone(UTC)  # the library ignores the time zone
    text = body.decode()
    signatures = [Webhook(secret).sign(event_id, sent_at, text) for secret in secrets]
    chalk_signature = hmac.digest(secrets[0].encode(), body, hashlib.sha256).hex()
    return {
        "Content-Type": "application/json",
        "User-Agent": _USER_AGENT,
        "webhook-id": event_id,
        "webhook-timestamp": str(int(sent_at.timestamp())),
        "webhook-signature": " ".join(signatures),
        "X-Chalk-Event-Id": event_id,
        "X-Chalk-Webhook-Id": webhook_id,
        "X-Chalk-Timestamp": sent_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "X-Chalk-Security-Mode": "sign_only",
        "X-Chalk-Signature": f"sha256={chalk_signature}",
    }
