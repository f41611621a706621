"""Authentication: bearer tokens and signed requests come in, principals go out. Independent of HTTP.

`Authenticator` is the entry point: it returns the `Principal` of a bearer token. `oauth1.OAuth1Verifier` returns the
principal of a signed request. Every subpackage contains one kind of credential, with its store and its verifier.
"""

from chalk_flask.auth.authenticator import Authenticator

__all__ = ["Authenticator"]
