"""API tokens: `TokenStore` creates, lists, revokes and authenticates the bearer tokens of this service."""

from chalk_flask.auth.tokens.record import ApiToken
from chalk_flask.auth.tokens.store import TokenError, TokenStore

__all__ = ["ApiToken", "TokenError", "TokenStore"]
