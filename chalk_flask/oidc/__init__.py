"""Sign-in with an account of an identity provider (OpenID Connect): authorization code, PKCE, ID token.

`OidcClient` is the entry point: it returns the URL of the provider, and then the verified `Identity` of the user.
`OidcSettings` says which provider is used, and who gets which access. Independent of HTTP servers and administrators.
"""

from chalk_flask.oidc.client import OidcClient, PendingOidc
from chalk_flask.oidc.errors import OidcError, ProviderError, SignInCanceledError, SignInExpiredError
from chalk_flask.oidc.identity import Identity
from chalk_flask.oidc.oidc_settings import OidcSettings

__all__ = [
    "Identity",
    "OidcClient",
    "OidcError",
    "OidcSettings",
    "PendingOidc",
    "ProviderError",
    "SignInCanceledError",
    "SignInExpiredError",
]
