"""Settings of the mail server, checked together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Self

from chalk_flask.settings import Settings, SettingsError
from chalk_flask.settings.mail_rules import parse_sender

__all__ = ["MailServerSettings"]

DEFAULT_PORTS: Final = {"starttls": 587, "tls": 465, "none": 25}
"""Port by value of the setting `smtp_security`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServerSettings:
    """Address of the mail server, authentication, sender, and the URL with which links begin ("": no links)."""

    host: str
    port: int
    security: str
    user: str
    password: str = field(repr=False)
    sender_name: str
    sender: str
    console_url: str = ""

    @property
    def sender_domain(self) -> str:
        """Domain of the sender, which also names this service to the mail server."""
        return self.sender.rpartition("@")[2]

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """Return the settings of the mail server; None without `smtp_host`.

        Raises SettingsError if the sender is missing, or if a password would be sent in plain text.
        """
        if not settings.smtp_host:
            return None
        sender = parse_sender(settings.mail_from)
        if sender is None:
            raise SettingsError("smtp_host requires mail_from, the sender of mail: set CHALK_MAIL_FROM")
        if bool(settings.smtp_user) != bool(settings.smtp_password):
            raise SettingsError("smtp_user and smtp_password require each other: set both, or neither")
        if settings.smtp_user and settings.smtp_security == "none":
            raise SettingsError(
                "smtp_user requires smtp_security starttls or tls, because the password must not be sent in plain text"
            )
        return cls(
            host=settings.smtp_host,
            port=settings.smtp_port or DEFAULT_PORTS[settings.smtp_security],
            security=settings.smtp_security,
            user=settings.smtp_user,
            password=settings.smtp_password,
            sender_name=sender[0],
            sender=sender[1],
            console_url=settings.public_url,
        )
