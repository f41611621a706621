"""Connection to mail servers: encryption, authentication, failures in words, and limits on time."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from chalk_flask.mail import MailConnection, MailError, MailServerSettings, RecipientError, build_test_message
from chalk_flask.settings import SettingsError, load_settings
from tests.support.mail.mail_server import PASSWORD, SENDER, USER, run_mail_server
from tests.support.receiver import CertificateAuthority

TO = "it-office@example.org"
CREDENTIALS = {"smtp_user": USER, "smtp_password": PASSWORD}


def server_settings(port: int, **settings: Any) -> MailServerSettings:
    base = {"smtp_host": "127.0.0.1", "smtp_port": port, "mail_from": SENDER}
    server = MailServerSettings.of(load_settings(base | settings, {}))
    assert server is not None
    return server


def send(
    server: MailServerSettings, context: ssl.SSLContext | None = None, recipient: str = TO, **options: Any
) -> None:
    with MailConnection(server, context=context, **options) as connection:
        connection.send(build_test_message(server, recipient), recipient)


@contextmanager
def listening(reply: bytes = b"", *, drip: float = 0) -> Iterator[int]:
    """Yield the port of a server that sends `reply`, a byte per `drip` seconds, and reads nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def serve() -> None:
            stream, _ = listener.accept()
            with stream:
                try:
                    for number in range(len(reply)):
                        stream.sendall(reply[number : number + 1])
                        ended.wait(drip)
                    ended.wait(120)
                except OSError:
                    pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        ended.set()
        thread.join(5)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_message_is_sent_encrypted_and_authenticated(security: str, authority: CertificateAuthority) -> None:
    tls: dict[str, Any] = {security: authority.server_context("127.0.0.1")}
    with run_mail_server(**tls, auth=True) as mail:
        send(server_settings(mail.port, smtp_security=security, **CREDENTIALS), authority.client_context())
        assert (mail.received(), mail.users) == ([(TO, "Test message of your roster service")], [USER])
    [message] = mail.messages
    assert (message["From"], message["Auto-Submitted"]) == (SENDER, "auto-generated")


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_certificate_of_another_authority_or_host_is_rejected(
    security: str, host: str, authority: CertificateAuthority
) -> None:
    trusted = authority.with_same_name() if host == "127.0.0.1" else authority
    tls: dict[str, Any] = {security: authority.server_context(host)}
    with run_mail_server(**tls) as mail:
        with pytest.raises(MailError, match=r"the certificate of the mail server .* is not valid"):
            send(server_settings(mail.port, smtp_security=security), trusted.client_context())
        assert not mail.messages


def test_wrong_password_is_named_without_the_password(authority: CertificateAuthority) -> None:
    with run_mail_server(starttls=authority.server_context("127.0.0.1"), auth=True) as mail:
        server = server_settings(mail.port, smtp_user=USER, smtp_password="wrong-battery")
        with pytest.raises(MailError, match=r"rejects smtp_user or smtp_password \(code 535 5\.7\.8\)") as failure:
            send(server, authority.client_context())
    assert "wrong-battery" not in f"{failure.value}{server!r}"
    assert failure.value.__cause__ is None


def test_server_without_encryption_gets_no_message(authority: CertificateAuthority) -> None:
    with run_mail_server() as mail:
        with pytest.raises(MailError, match="does not offer STARTTLS"):
            send(server_settings(mail.port))
        with pytest.raises(MailError, match=r"TLS with the mail server .* failed: check smtp_security"):
            send(server_settings(mail.port, smtp_security="tls"))
        assert not mail.messages


def test_server_that_requires_authentication_is_named(authority: CertificateAuthority) -> None:
    with (
        run_mail_server(starttls=authority.server_context("127.0.0.1"), auth=True) as mail,
        pytest.raises(MailError, match=r"rejects the sender mail_from \(code 530 5\.7\.0\)"),
    ):
        send(server_settings(mail.port), authority.client_context())


def test_refused_connection_and_unknown_host_are_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(MailError, match=f"127.0.0.1:{port} refuses the connection: check smtp_host and smtp_port"):
        send(server_settings(port))
    with pytest.raises(MailError, match=r"the host name 'mail\.invalid' cannot be resolved: check smtp_host"):
        send(server_settings(25, smtp_host="mail.invalid"))


@pytest.mark.parametrize(
    ("reply", "is_final"), [("550 5.1.1 <it-office@example.org> is unknown", True), ("451 later", False)]
)
def test_rejected_recipient_is_an_error_without_the_address(reply: str, is_final: bool) -> None:
    with run_mail_server() as mail:
        mail.rejected[TO] = reply
        server = server_settings(mail.port, smtp_security="none")
        with MailConnection(server) as connection:
            with pytest.raises(RecipientError) as rejection:
                connection.send(build_test_message(server, TO), TO)
            connection.send(build_test_message(server, "kim@example.org"), "kim@example.org")
    assert rejection.value.is_final is is_final
    assert TO not in str(rejection.value)
    assert [recipient for recipient, _ in mail.received()] == ["kim@example.org"]


@pytest.mark.parametrize("drip", [0, 0.2], ids=["silent", "byte by byte"])
def test_slow_server_ends_at_the_deadline(drip: float) -> None:
    with listening(b"220 mail.example.org at your service" * 20 * bool(drip), drip=drip) as port:
        started = time.monotonic()
        with pytest.raises(MailError, match="did not answer in time"):
            send(server_settings(port, smtp_security="none"), step_seconds=0.5)
        assert time.monotonic() - started < 60, "all bytes take 144 s"


def test_stop_interrupts_a_connection() -> None:
    stopping = threading.Event()
    with listening() as port:
        timer = threading.Timer(0.3, stopping.set)
        timer.start()
        started = time.monotonic()
        with pytest.raises(MailError):
            send(server_settings(port, smtp_security="none"), stopping=stopping)
        timer.join()
        assert time.monotonic() - started < 15


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mail_from": ""}, "smtp_host requires mail_from"),
        ({"smtp_user": USER}, "smtp_user and smtp_password require each other"),
        ({**CREDENTIALS, "smtp_security": "none"}, "the password must not be sent in plain text"),
    ],
)
def test_incomplete_settings_are_rejected(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as rejection:
        server_settings(25, **settings)
    assert PASSWORD not in str(rejection.value)


@pytest.mark.parametrize(("security", "port"), [("starttls", 587), ("tls", 465), ("none", 25)])
def test_port_follows_from_the_encryption(security: str, port: int) -> None:
    assert server_settings(0, smtp_security=security).port == port


def test_without_a_host_there_is_no_server() -> None:
    assert MailServerSettings.of(load_settings({"mail_from": SENDER}, {})) is None
