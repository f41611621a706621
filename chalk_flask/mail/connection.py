"""Connection to the mail server, with limits on the time of each step and of the whole connection."""

from __future__ import annotations

import smtplib
import socket
import ssl
import threading
import time
from contextlib import suppress
from email.message import EmailMessage
from types import TracebackType
from typing import Final, Self

from chalk_flask.mail.error_text import describe_error, reply_code
from chalk_flask.mail.server_settings import MailServerSettings

__all__ = ["MailConnection", "MailError", "RecipientError"]

TIMEOUT_SECONDS: Final = 10.0
"""Timeout for connecting, and for each reply of the server."""
STEP_SECONDS: Final = 30.0
"""Limit for connecting and authenticating together, and for each message. A socket timeout limits single reads only."""
WATCH_INTERVAL_SECONDS: Final = 0.1


class MailError(Exception):
    """Failure of the mail server. The message says which setting to check, and contains no address."""


class RecipientError(Exception):
    """Rejection of one recipient by the mail server. If `is_final`, another attempt cannot succeed."""

    def __init__(self, reply: str, *, is_final: bool) -> None:
        super().__init__(f"the mail server rejects the recipient ({reply})")
        self.is_final = is_final


class MailConnection:
    """Context manager of a connection. The beginning of its block connects and authenticates, and raises MailError.

    When `stopping` is set, the connection is shut down, so that a slow server does not delay the end of the process.
    `context` has the trusted authorities, by default those of the system.
    """

    def __init__(
        self,
        server: MailServerSettings,
        stopping: threading.Event | None = None,
        context: ssl.SSLContext | None = None,
        step_seconds: float = STEP_SECONDS,
    ) -> None:
        self._server, self._stopping, self._step_seconds = server, stopping or threading.Event(), step_seconds
        self._context = context or ssl.create_default_context()
        self._client = self._new_client()
        self._closed = threading.Event()
        self._deadline = time.monotonic() + step_seconds
        self._is_late = False

    def __enter__(self) -> Self:
        threading.Thread(target=self._watch, name="mail: deadline", daemon=True).start()
        try:
            self._begin()
        except (OSError, smtplib.SMTPException, ValueError) as error:
            self._close()
            raise self._mail_error(error) from None
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, RecipientError):
            self._extend_deadline()
            with suppress(OSError, smtplib.SMTPException):
                self._client.quit()
        self._close()

    def send(self, message: EmailMessage, recipient: str) -> None:
        """Send a message to one recipient. Raises RecipientError if the recipient is rejected, otherwise MailError."""
        self._extend_deadline()
        try:
            self._client.send_message(message, self._server.sender, [recipient])
        except smtplib.SMTPRecipientsRefused as error:
            [(code, text)] = error.recipients.values()
            raise RecipientError(reply_code(code, text), is_final=code >= 500) from None
        except smtplib.SMTPDataError as error:
            raise RecipientError(
                reply_code(error.smtp_code, error.smtp_error), is_final=error.smtp_code >= 500
            ) from None
        except (OSError, smtplib.SMTPException, ValueError) as error:
            raise self._mail_error(error) from None

    def _new_client(self) -> smtplib.SMTP:
        server = self._server
        if server.security == "tls":
            client: smtplib.SMTP = smtplib.SMTP_SSL(
                local_hostname=server.sender_domain, timeout=TIMEOUT_SECONDS, context=self._context
            )
        else:
            client = smtplib.SMTP(local_hostname=server.sender_domain, timeout=TIMEOUT_SECONDS)
        # The library compares this name with the certificate. It sets the name only if its constructor also connects,
        # but then no other thread could shut the connection down.
        client._host = server.host  # type: ignore[attr-defined]  # see above
        return client

    def _begin(self) -> None:
        server, client = self._server, self._client
        code, text = client.connect(server.host, server.port)
        if code != 220:
            raise smtplib.SMTPConnectError(code, text)
        client.ehlo_or_helo_if_needed()
        if server.security == "starttls":
            code, reply = client.starttls(context=self._context)
            if code != 220:
                raise smtplib.SMTPResponseException(code, reply)
        if server.user:
            client.login(server.user, server.password)

    def _mail_error(self, error: Exception) -> MailError:
        return MailError(describe_error(TimeoutError() if self._is_late else error, self._server))

    def _extend_deadline(self) -> None:
        self._deadline = time.monotonic() + self._step_seconds

    def _watch(self) -> None:
        """Shut the connection down when its time is over, again and again, because it may not be open yet."""
        while not self._closed.wait(WATCH_INTERVAL_SECONDS):
            self._is_late = self._is_late or time.monotonic() > self._deadline
            if (self._is_late or self._stopping.is_set()) and self._client.sock is not None:
                with suppress(OSError):
                    # The shutdown of a TLS socket is not safe in another thread; that of the plain socket is.
                    socket.socket.shutdown(self._client.sock, socket.SHUT_RDWR)

    def _close(self) -> None:
        self._closed.set()
        with suppress(OSError):
            self._client.close()
