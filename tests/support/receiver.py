"""Receivers of webhooks on real sockets, which do what they are told with each connection, and certificates."""

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

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Receiver:
    """A listening socket: how many connections came, and every request that was read whole."""

    port: int
    connections: int = 0
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks?key=hush"


Behaviour = Callable[[Receiver, socket.socket], None]


def read_request(receiver: Receiver, stream: socket.socket) -> bool:
    """Read one request, whole; False at the end of the connection."""
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
        body += stream.recv(65536)
    receiver.requests.append((first, headers, body))
    return True


def answering(answer: bytes = OK, *, close: bool = False, times: int = 1_000_000) -> Behaviour:
    """Read each request and answer it with these bytes; `close` after it, or `times` of them."""

    def behave(receiver: Receiver, stream: socket.socket) -> None:
        left = 1 if close else times
        while left and read_request(receiver, stream):
            stream.sendall(answer)
            left -= 1

    return behave


@contextmanager
def receiving(behave: Behaviour, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[Receiver]:
    """A receiver that does this with each connection, in a thread for each."""
    with socket.create_server((host, 0)) as listening:
        receiver = Receiver(listening.getsockname()[1])
        open_ones: list[socket.socket] = []

        def serve(stream: socket.socket) -> None:
            with suppress(OSError):
                if tls is not None:
                    stream = tls.wrap_socket(stream, server_side=True)
                with stream:
                    behave(receiver, stream)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    stream, _ = listening.accept()
                    receiver.connections += 1
                    open_ones.append(stream)
                    threading.Thread(target=serve, args=[stream], daemon=True).start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield receiver
        finally:
            for each in (listening, *open_ones):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            accepting.join(5)
            for each in open_ones:
                each.close()


class Authority:
    """A certificate authority for tests."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        self._own = self._signed(self._name, self._key.public_key(), ca=True)

    def another(self) -> Authority:
        """Another authority of the same name."""
        return Authority(self._folder)

    def believing(self) -> ssl.SSLContext:
        """A context of a client that believes this authority alone."""
        context = ssl.create_default_context(cadata=self._own.public_bytes(Encoding.PEM).decode())
        assert context.check_hostname
        return context

    def serving(self, host: str, *, days: int = 1, self_signed: bool = False) -> ssl.SSLContext:
        """A context of a server with a certificate for this host, which ends in so many days."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Receiver")])
        made = self._signed(name, key.public_key(), host=host, days=days, signer=key if self_signed else None)
        path = self._folder / f"{x509.random_serial_number()}.pem"
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(private + made.public_bytes(Encoding.PEM))
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
