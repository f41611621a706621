"""Mail servers on real sockets, which keep the messages that they accept."""

from __future__ import annotations

import asyncio
import ssl
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

SENDER = "Roster <roster@example.org>"
USER, PASSWORD = "roster-service", "correct-horse"


@dataclass
class MailServer:
    """Running server: its port, the accepted messages, and the recipients that it rejects with these replies."""

    port: int = 0
    messages: list[EmailMessage] = field(default_factory=list)
    rejected: dict[str, str] = field(default_factory=dict)
    users: list[str] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of a service that uses this server without encryption."""
        return {"smtp_host": "127.0.0.1", "smtp_port": self.port, "smtp_security": "none", "mail_from": SENDER}

    def received(self) -> list[tuple[str, str]]:
        """Return recipient and subject of each message, in order."""
        return [(message["To"], message["Subject"]) for message in self.messages]

    async def handle_RCPT(  # noqa: N802 - the library calls it
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.rejected:
            return self.rejected[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - the library calls it
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.messages.append(message)
        return "250 OK"

    def authenticate(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        """Accept USER with PASSWORD."""
        assert isinstance(data, LoginPassword)
        self.users.append(data.login.decode())
        is_valid = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=is_valid, handled=is_valid)


@contextmanager
def run_mail_server(
    *, starttls: ssl.SSLContext | None = None, tls: ssl.SSLContext | None = None, auth: bool = False, port: int = 0
) -> Iterator[MailServer]:
    """Run a server until the block ends. With `auth` it requires USER and PASSWORD."""
    mail = MailServer()
    options: dict[str, Any] = {"tls_context": starttls, "require_starttls": starttls is not None}
    if auth:
        options |= {"authenticator": mail.authenticate, "auth_required": True, "auth_require_tls": tls is None}

    def new_session() -> SMTP:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the library warns of options that these tests need
            return SMTP(mail, hostname="mail.example.org", loop=loop, **options)

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(new_session, "127.0.0.1", port, ssl=tls))
    mail.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield mail
    finally:
        asyncio.run_coroutine_threadsafe(_close(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _close(server: asyncio.Server) -> None:
    """Close the server and end its connections."""
    server.close()
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)
