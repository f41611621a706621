"""Authentication of requests: bearer tokens, OAuth 1.0a signatures, rate limits and limits on failed attempts.

`make_auth` returns the guard that views are decorated with, and `with_rate_limits` adds the operator's rates to it.
"""

from chalk_flask.api.auth.authentication import current_principal, current_version, make_auth
from chalk_flask.api.auth.rate_limits import Auth, FailedAuthLimiter, with_rate_limits

__all__ = ["Auth", "FailedAuthLimiter", "current_principal", "current_version", "make_auth", "with_rate_limits"]
