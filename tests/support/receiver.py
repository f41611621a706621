"""Webhook receivers on real sockets, with a handler per connection, and a certificate authority."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

OK_RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Receiver:
    """Listening socket with the number of its connections and every complete request (first line, headers, body)."""

    port: int
    connections: int = 0
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """URL with a secret in its query, which must not appear in any message."""
        return f"http://127.0.0.1:{self.port}/hooks?key=hush"


ConnectionHandler = Callable[[Receiver, socket.socket], None]


def read_request(receiver: Receiver, stream: socket.socket) -> bool:
    """Read one complete request; return False at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = stream.recv(65536)
        if not more:
            return False
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    while len(body) < int(headers["content-length"]):
        more = stream.recv(65536)
        if not more:
            return False
        body += more
    receiver.requests.append((first, headers, body))
    return True


def respond(response: bytes = OK_RESPONSE, *, close: bool = False, times: int = 1_000_000) -> ConnectionHandler:
    """Respond to each request with these bytes; close the connection after the first request or after `times`."""

    def handle(receiver: Receiver, stream: socket.socket) -> None:
        for _ in range(1 if close else times):
            if not read_request(receiver, stream):
                break
            stream.sendall(response)

    return handle


@contextmanager
def run_receiver(
    handle: ConnectionHandler, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> Iterator[Receiver]:
    """Run a receiver that calls the handler for each connection, in a thread of its own, until the block ends."""
    with socket.create_server((host, 0)) as listening:
        receiver = Receiver(listening.getsockname()[1])
        streams: list[socket.socket] = []

        def serve(stream: socket.socket) -> None:
            with suppress(OSError):
                if tls is not None:
                    stream = tls.wrap_socket(stream, server_side=True)
                with stream:
                    handle(receiver, stream)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    stream, _ = listening.accept()
                    receiver.connections += 1
                    streams.append(stream)
                    threading.Thread(target=serve, args=[stream], daemon=True).start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield receiver
        finally:
            for stream in (listening, *streams):
                with suppress(OSError):
                    stream.shutdown(socket.SHUT_RDWR)
            accepting.join(5)
            for stream in streams:
                stream.close()


class CertificateAuthority:
    """Certificate authority for tests."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        self._certificate = self._signed(self._name, self._key.public_key(), ca=True)

    def with_same_name(self) -> CertificateAuthority:
        """Return another authority of the same name, with another key."""
        return CertificateAuthority(self._folder)

    def client_context(self) -> ssl.SSLContext:
        """Return a context for a client that trusts this authority alone."""
        context = ssl.create_default_context(cadata=self._certificate.public_bytes(Encoding.PEM).decode())
        assert context.check_hostname
        return context

    def server_context(self, host: str, *, days: int = 1, self_signed: bool = False) -> ssl.SSLContext:
        """Return a context for a server with a certificate for this host that is valid for `days` more days."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Receiver")])
        certificate = self._signed(name, key.public_key(), host=host, days=days, signer=key if self_signed else None)
        path = self._folder / f"{x509.random_serial_number()}.pem"
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(private + certificate.public_bytes(Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def _signed(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        *,
        ca: bool = False,
        host: str = "",
        days: int = 1,
        signer: ec.EllipticCurvePrivateKey | None = None,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder(subject if signer else self._name, subject, key, x509.random_serial_number())
            .not_valid_before(now - timedelta(days=30))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key((signer or self._key).public_key()), critical=False
            )
        )
        if ca:
            usage = dict.fromkeys(
                (
                    "digital_signature",
                    "content_commitment",
                    "key_encipherment",
                    "data_encipherment",
                    "key_agreement",
                    "encipher_only",
                    "decipher_only",
                ),
                False,
            )
            builder = builder.add_extension(x509.KeyUsage(**usage, key_cert_sign=True, crl_sign=True), critical=True)
        if host:
            names: x509.GeneralName = x509.IPAddress(ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
            builder = builder.add_extension(x509.SubjectAlternativeName([names]), critical=False)
        return builder.sign(signer or self._key, hashes.SHA256())
