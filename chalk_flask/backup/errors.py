"""Errors of backups. Each message contains the reason and the remedy, and no personal data."""

from __future__ import annotations

__all__ = ["ArchiveError", "BackupError"]


class BackupError(Exception):
    """Error of a backup or a restore that changed nothing."""


class ArchiveError(BackupError):
    """Archive that is damaged, incomplete, encrypted with another passphrase, or not a backup at all."""
