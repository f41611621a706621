"""Authentication of requests: bearer tokens, OAuth 1.0a signatures, rate limits and limits on failed attempts.

Requests come in, and their principals go out through `current_principal`. `make_auth` is the entry point: it returns
the guard that decorates views. `with_rate_limits` adds the operator's rates to it.
"""

from chalk_flask.api.auth.authentication import current_principal, current_version, make_auth
from chalk_flask.api.auth.rate_limits import Auth, FailedAuthLimiter, with_rate_limits

__all__ = ["Auth", "FailedAuthLimiter", "current_principal", "current_version", "make_auth", "with_rate_limits"]
