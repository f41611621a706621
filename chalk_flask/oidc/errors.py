"""Errors of a sign-in with an identity provider. Their messages contain nothing that the provider sent."""

from __future__ import annotations

__all__ = ["OidcError", "ProviderError", "SignInCanceledError", "SignInExpiredError"]


class OidcError(Exception):
    """Failed sign-in with an identity provider. The message is for the log of the service."""


class ProviderError(OidcError):
    """Identity provider that cannot be reached, or whose response is invalid."""


class SignInCanceledError(OidcError):
    """Sign-in that the user canceled, or that the provider rejected."""


class SignInExpiredError(OidcError):
    """Response to a sign-in that this browser did not begin, that is out of date, or that was already completed."""
