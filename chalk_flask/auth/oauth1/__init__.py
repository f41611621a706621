"""OAuth 1.0a: `OAuth1Verifier` returns the principal of a request that an OAuth client signed (RFC 5849)."""

from chalk_flask.auth.oauth1.verifier import MalformedRequestError, OAuth1Verifier, SignedRequest

__all__ = ["MalformedRequestError", "OAuth1Verifier", "SignedRequest"]
