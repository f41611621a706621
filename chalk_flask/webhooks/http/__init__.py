"""HTTP client for deliveries. `WebhookClient` posts signed bytes to a URL that `SsrfGuard` allows.

The result is an `AttemptResponse`: a status or an error, always within a time limit.
"""

from __future__ import annotations

from chalk_flask.webhooks.http.client import AttemptResponse, WebhookClient
from chalk_flask.webhooks.http.ssrf_guard import ForbiddenTargetError, SsrfGuard

__all__ = ["AttemptResponse", "ForbiddenTargetError", "SsrfGuard", "WebhookClient"]
