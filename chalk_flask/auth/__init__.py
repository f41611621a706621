"""Authentication: bearer tokens and signed requests in, principals out. Free of HTTP.

`Authenticator` returns the `Principal` of a bearer token, `oauth1.OAuth1Verifier` that of a signed request. The
subpackages hold one kind of credential each, with its store and its verifier.
"""

from chalk_flask.auth.authenticator import Authenticator

__all__ = ["Authenticator"]
