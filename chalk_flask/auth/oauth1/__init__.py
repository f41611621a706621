"""OAuth 1.0a (RFC 5849): a request that an OAuth client signed comes in, its principal goes out.

`OAuth1Verifier` is the entry point.
"""

from chalk_flask.auth.oauth1.verifier import MalformedRequestError, OAuth1Verifier, SignedRequest

__all__ = ["MalformedRequestError", "OAuth1Verifier", "SignedRequest"]
