"""Access to `/metrics`: with the token of the settings, or without one from this machine alone."""

from __future__ import annotations

import hmac
import ipaddress

from flask import Request, g

from chalk_flask.api.errors import ApiError

__all__ = ["check_metrics_access"]

FORWARDING_HEADERS = ("HTTP_FORWARDED", "HTTP_VIA", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST", "HTTP_X_REAL_IP")
"""Headers that a reverse proxy adds. A proxy on this machine has a loopback address itself."""

TOKEN_MESSAGE = "The token of the setting metrics_token is required."
LOCAL_MESSAGE = (
    "Without the setting metrics_token, only requests from the machine of the service that no proxy has forwarded can"
    " read its metrics."
)


def check_metrics_access(request: Request, token: str) -> None:
    """Raise ApiError (401 or 403) unless a client may read the metrics. `token` is the setting `metrics_token`."""
    if token:
        scheme, _, sent = request.environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(sent.strip().encode(), token.encode()):
            g.rejection = "the token of /metrics is missing or wrong"
            raise ApiError(401, TOKEN_MESSAGE, challenge="Bearer")
    elif not _is_local(request):
        raise ApiError(403, LOCAL_MESSAGE)


def _is_local(request: Request) -> bool:
    if any(name in request.environ for name in FORWARDING_HEADERS):
        return False
    try:
        address = ipaddress.ip_address(request.remote_addr or "")
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
