"""How deliveries are signed: as Standard Webhooks 1.0.0 says, and beside that with Chalk's own headers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets as randomness
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata

from standardwebhooks import Webhook

__all__ = ["PREFIX", "new_secret", "signed_headers"]

PREFIX = "whsec_"
"""How every secret begins."""


def _agent() -> str:
    try:
        return f"Chalk-Flask/{metadata.version('chalk-flask')}"
    except metadata.PackageNotFoundError:  # run from a checkout
        return "Chalk-Flask"


_AGENT = _agent()


def new_secret() -> str:
    """A new secret of a webhook: `whsec_` and 32 random bytes in base64."""
    return PREFIX + base64.b64encode(randomness.token_bytes(32)).decode()


def signed_headers(
    secrets: Sequence[str], event_id: str, webhook_id: str, moment: datetime, body: bytes
) -> dict[str, str]:
    """The headers of one attempt to deliver `body`, which is UTF-8 text, at `moment`.

    `secrets` begin with the newest: the first alone makes `X-Chalk-Signature` (HMAC-SHA256 of the body, keyed with the
    secret as it was shown), each makes a signature in `webhook-signature`, so that a receiver may know any of them.
    """
    moment = moment.astimezone(UTC)  # the library takes the hour as it stands for that of UTC
    text = body.decode()
    signatures = [Webhook(secret).sign(event_id, moment, text) for secret in secrets]
    own = hmac.digest(secrets[0].encode(), body, hashlib.sha256).hex()
    return {
        "Content-Type": "application/json",
        "User-Agent": _AGENT,
        "webhook-id": event_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": " ".join(signatures),
        "X-Chalk-Event-Id": event_id,
        "X-Chalk-Webhook-Id": webhook_id,
        "X-Chalk-Timestamp": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "X-Chalk-Security-Mode": "sign_only",
        "X-Chalk-Signature": f"sha256={own}",
    }
