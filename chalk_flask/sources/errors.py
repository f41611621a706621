"""Errors of sources. Their messages contain a reason and a remedy, and neither a secret nor personal data."""

from __future__ import annotations

__all__ = [
    "ChangedWhileReadError",
    "CredentialsInUrlError",
    "SecretRequiredError",
    "SourceBusyError",
    "SourceError",
    "StatusError",
]


class SourceError(Exception):
    """Error for a source that cannot be added, found or read. Nothing was imported."""


class SecretRequiredError(SourceError):
    """Error for a change that requires the secret again: it has another server or another kind of credential."""


class CredentialsInUrlError(SourceError):
    """Error for a URL that contains a user name or a password."""


class SourceBusyError(SourceError):
    """Error for a sync of a tenant that does not start because another one runs."""


class ChangedWhileReadError(SourceError):
    """Error for a collection that changed during each reading."""


class StatusError(SourceError):
    """Error for a response that is not a success. `status` is its HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status
