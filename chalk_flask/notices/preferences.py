"""Mail preferences: the e-mail address of an administrator, and the notices that are sent to it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from chalk_flask.notices.notice import DIGEST, NOTICE_EVENTS
from chalk_flask.outbox.event import IMPORT_HELD, IMPORT_OVERDUE, IMPORT_REJECTED
from chalk_flask.settings.mail_rules import is_mail_address

__all__ = ["DEFAULT_EVENTS", "MailPreferences", "MailPreferencesError"]

DEFAULT_EVENTS: Final = (IMPORT_HELD, IMPORT_REJECTED, IMPORT_OVERDUE)
"""Events of which an administrator with an address is notified, unless the administrator chooses others."""


class MailPreferencesError(ValueError):
    """Invalid address or unknown event. The message does not contain the address."""


@dataclass(frozen=True, slots=True)
class MailPreferences:
    """Choice of an administrator. Without an `address`, no mail is sent.

    `events` are names of NOTICE_EVENTS of which a notice is sent at once. With `digest`, one message per day lists all
    imports.
    """

    address: str = ""
    events: tuple[str, ...] = DEFAULT_EVENTS
    digest: bool = False

    @classmethod
    def of(cls, address: str, events: Collection[str], *, digest: bool) -> Self:
        """Return checked preferences. Raises MailPreferencesError for an invalid address or an unknown event."""
        stripped = address.strip()
        if stripped and not is_mail_address(stripped):
            raise MailPreferencesError("invalid e-mail address: enter one such as name@example.org, in ASCII")
        unknown = next((event for event in events if event not in NOTICE_EVENTS), None)
        if unknown is not None:
            raise MailPreferencesError(f"unknown event {unknown[:80]!r}: use {', '.join(NOTICE_EVENTS)}")
        return cls(stripped, tuple(event for event in NOTICE_EVENTS if event in events), digest)

    def wants(self, event: str) -> bool:
        """Return True if notices of this event, or DIGEST, are sent to the address."""
        return bool(self.address) and (self.digest if event == DIGEST else event in self.events)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that is stored and shown."""
        return {"address": self.address, "events": list(self.events), "digest": self.digest}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None) -> Self:
        """Return the preferences of a JSON object; the defaults for None, as in records of earlier versions."""
        return cls() if data is None else cls(data["address"], tuple(data["events"]), data["digest"])
