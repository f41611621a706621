"""Issuer of JWTs as a tool runs one: keys, tokens that joserfc signs, and a server that publishes the keys."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from backends import Backend
from chalk_flask.auth.jwt.issuers import IssuerStore, TrustedIssuer
from chalk_flask.permissions.scopes import DEFAULT

__all__ = [
    "AUDIENCE",
    "ISSUER",
    "JwksServer",
    "ec_key",
    "make_jwks",
    "rsa_key",
    "serve_jwks",
    "sign_jwt",
    "trust_issuer",
]

ISSUER, AUDIENCE = "https://tool.example.org", "https://roster.example.org"


@cache
def rsa_key(kid: str) -> RSAKey:
    """Return an RSA key pair with this id, always the same."""
    return RSAKey.generate_key(2048, {"kid": kid})


@cache
def ec_key(kid: str) -> ECKey:
    """Return a P-256 key pair with this id, always the same."""
    return ECKey.generate_key("P-256", {"kid": kid})


def make_jwks(*keys: RSAKey | ECKey) -> bytes:
    """Return the JWK Set with the public parts of these keys."""
    return json.dumps({"keys": [key.as_dict(private=False) for key in keys]}).encode()


def sign_jwt(key: RSAKey | ECKey, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
    """Return a token that is valid for a minute. `header` and `claims` replace the usual ones; None removes one."""
    now = int(time.time())
    all_claims = {"iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + 60} | claims
    algorithm = "RS256" if isinstance(key, RSAKey) else "ES256"
    all_headers = {"alg": algorithm, "kid": key.kid} | dict(header or {})
    return jwt.encode(_without_none(all_headers), _without_none(all_claims), key)


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def trust_issuer(store: Backend, **changes: Any) -> TrustedIssuer:
    """Trust the tool with the keys `old` and `curve` in the default tenant; `changes` are arguments of `add`."""
    arguments = {
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "scopes": DEFAULT,
        "jwks": make_jwks(rsa_key("old"), ec_key("curve")),
    }
    return IssuerStore(store).add(**(arguments | changes))


@dataclass
class JwksServer:
    """Server that responds with `status`, `headers` and `body`, and counts its requests."""

    url: str = ""
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    request_count: int = 0
    before_response: Callable[[], object] = lambda: None


@contextmanager
def serve_jwks(*keys: RSAKey | ECKey, tls: ssl.SSLContext | None = None) -> Iterator[JwksServer]:
    """Publish the public keys on 127.0.0.1, over TLS if there is a context, until the block ends."""
    published = JwksServer(body=make_jwks(*keys))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            published.request_count += 1
            published.before_response()
            self.send_response(published.status)
            for name, value in published.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(published.body)))
            self.end_headers()
            self.wfile.write(published.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        published.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}/jwks.json"
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield published
        finally:
            server.shutdown()
            thread.join()
