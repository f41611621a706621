"""API tokens, the bearer tokens of this service: a token comes in, its principal goes out.

`TokenStore` is the entry point: it creates, lists, revokes and authenticates API tokens.
"""

from chalk_flask.auth.tokens.record import ApiToken
from chalk_flask.auth.tokens.store import TokenError, TokenStore

__all__ = ["ApiToken", "TokenError", "TokenStore"]
