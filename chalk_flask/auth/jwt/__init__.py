"""JWTs of trusted issuers as bearer tokens (RFC 7519): a JWT comes in, its principal goes out.

`JwtVerifier` is the entry point. `IssuerStore` adds, lists and removes the trusted issuers. Their keys are stored, or
fetched from their JWKS URL.
"""

from chalk_flask.auth.jwt.issuers import IssuerError, IssuerStore, TrustedIssuer
from chalk_flask.auth.jwt.verifier import JwtVerifier

__all__ = ["IssuerError", "IssuerStore", "JwtVerifier", "TrustedIssuer"]
