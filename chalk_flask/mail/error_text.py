"""Messages about failures of the mail server: the failed step, and the setting to check.

Of a reply of the server, they contain the codes only, because servers repeat addresses in the text.
"""

from __future__ import annotations

import re
import smtplib
import socket
import ssl

from chalk_flask.mail.server_settings import MailServerSettings

__all__ = ["describe_error", "reply_code"]

_ENHANCED_CODE = re.compile(rb"[245]\.\d{1,3}\.\d{1,3}\b")


def describe_error(error: Exception, server: MailServerSettings) -> str:
    """Return the message about a failed connection or reply: one or two sentences without a final period."""
    place = f"the mail server {server.host}:{server.port}"
    if isinstance(error, smtplib.SMTPException):
        return _describe_smtp_error(error, place, server)
    match error:
        case socket.gaierror():
            return f"the host name {server.host!r} cannot be resolved: check smtp_host"
        case ConnectionRefusedError():
            return f"{place} refuses the connection: check smtp_host and smtp_port, and that the server runs"
        case ssl.SSLCertVerificationError():
            return (
                f"the certificate of {place} is not valid: {error.verify_message}. Set smtp_host to the name in the"
                " certificate. If your own authority issued it, name its file in SSL_CERT_FILE"
            )
        case ssl.SSLError():
            return f"TLS with {place} failed: check smtp_security (tls or starttls) and smtp_port"
        case TimeoutError():
            return f"{place} did not answer in time: check smtp_host, smtp_port, smtp_security and the firewall"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
    return f"the connection to {place} failed: {reason}"


def _describe_smtp_error(error: smtplib.SMTPException, place: str, server: MailServerSettings) -> str:
    match error:
        case smtplib.SMTPAuthenticationError():
            return f"{place} rejects smtp_user or smtp_password ({reply_code(error.smtp_code, error.smtp_error)})"
        case smtplib.SMTPSenderRefused():
            return f"{place} rejects the sender mail_from ({reply_code(error.smtp_code, error.smtp_error)})"
        case smtplib.SMTPNotSupportedError() if server.security == "starttls" and "STARTTLS" in str(error):
            return f"{place} does not offer STARTTLS: check smtp_port, or set smtp_security to tls or none"
        case smtplib.SMTPNotSupportedError():
            return f"{place} does not offer authentication: check smtp_port and smtp_security, or remove smtp_user"
        case smtplib.SMTPServerDisconnected():
            return f"{place} closed the connection: check smtp_port and smtp_security"
        case smtplib.SMTPResponseException():
            return f"{place} rejects the message or the connection ({reply_code(error.smtp_code, error.smtp_error)})"
    return f"{place} does not offer what is required: {type(error).__name__}"


def reply_code(code: int, text: bytes | str) -> str:
    """Return the code of a reply and its enhanced code (RFC 3463), such as `code 550 5.1.1`."""
    enhanced = _ENHANCED_CODE.match(text if isinstance(text, bytes) else text.encode())
    return f"code {code}{f' {enhanced[0].decode()}' if enhanced else ''}"
