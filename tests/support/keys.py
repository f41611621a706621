"""An issuer as a tool runs one: keys, tokens signed by joserfc, and a server on a socket that publishes the keys."""

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

__all__ = ["AUD", "ISS", "KeyServer", "ec_key", "key_set", "publishing", "rsa_key", "signed", "trust"]

ISS, AUD = "https://tool.example.org", "https://roster.example.org"


@cache
def rsa_key(name: str) -> RSAKey:
    """A pair of RSA keys with that id."""
    return RSAKey.generate_key(2048, {"kid": name})


@cache
def ec_key(name: str) -> ECKey:
    """A pair of P-256 keys with that id."""
    return ECKey.generate_key("P-256", {"kid": name})


def key_set(*keys: RSAKey | ECKey) -> bytes:
    """The JWK Set with the public part of these keys."""
    return json.dumps({"keys": [key.as_dict(private=False) for key in keys]}).encode()


def signed(key: RSAKey | ECKey, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
    """A token of the tool for a minute, with these headers and claims in place of its own (None: without that)."""
    now = int(time.time())
    usual = {"iss": ISS, "aud": AUD, "iat": now, "exp": now + 60} | claims
    algorithm = "RS256" if isinstance(key, RSAKey) else "ES256"
    heads = {"alg": algorithm, "kid": key.kid} | dict(header or {})
    kept = {name: value for name, value in heads.items() if value is not None}
    said = {name: value for name, value in usual.items() if value is not None}
    return jwt.encode(kept, said, key)


def trust(store: Backend, **changed: Any) -> TrustedIssuer:
    """Trust the tool, whose keys are `old` and `curve`, in the default tenant; or what is named otherwise."""
    given = {"jwks": key_set(rsa_key("old"), ec_key("curve")), **changed}
    audience, scopes = given.pop("audience", AUD), given.pop("scopes", DEFAULT)
    return IssuerStore(store).add(given.pop("issuer", ISS), audience, scopes, given.pop("tenant", "default"), **given)


@dataclass
class KeyServer:
    """A server that answers with `body`, `status` and `headers`, and counts how often it was asked."""

    url: str = ""
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    asked: int = 0
    wait: Callable[[], object] = lambda: None


@contextmanager
def publishing(*keys: RSAKey | ECKey, tls: ssl.SSLContext | None = None) -> Iterator[KeyServer]:
    """A server of the public keys on 127.0.0.1, until the end; with a context it speaks TLS."""
    told = KeyServer(body=key_set(*keys))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.asked += 1
            told.wait()
            self.send_response(told.status)
            for name, value in told.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(told.body)))
            self.end_headers()
            self.wfile.write(told.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        told.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}/jwks.json"
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield told
        finally:
            server.shutdown()
            thread.join()
