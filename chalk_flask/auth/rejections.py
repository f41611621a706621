"""Reason for which the last credential in this thread was rejected, for the log. The client never sees it.

Verifiers return None for any invalid credential, so that no caller can tell an unknown one from an expired one.
"""

from __future__ import annotations

import threading

__all__ = ["note_rejection", "take_rejection"]

UNKNOWN_REASON = "the credential is invalid"

_thread = threading.local()


def note_rejection(reason: str) -> None:
    """Keep the reason of a rejection. It contains no part of a secret."""
    _thread.reason = reason


def take_rejection() -> str:
    """Return the reason of the last rejection in this thread, and forget it."""
    reason: str = getattr(_thread, "reason", UNKNOWN_REASON)
    _thread.reason = UNKNOWN_REASON
    return reason
