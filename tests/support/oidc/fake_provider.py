"""Identity provider whose responses a test chooses, over real sockets. It answers wrongly if the test says so."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from joserfc.jwk import ECKey, RSAKey

from tests.support.keys import make_jwks, rsa_key, sign_jwt

__all__ = ["CLIENT_ID", "CLIENT_SECRET", "Answer", "FakeProvider", "authorization_params", "serve_fake_provider"]

CLIENT_ID, CLIENT_SECRET = "chalk-console", "s3cret+with/special:characters%"

DISCOVERY, JWKS, TOKEN, USERINFO = "/.well-known/openid-configuration", "/jwks", "/token", "/userinfo"


@dataclass(frozen=True)
class Answer:
    """HTTP response: JSON, or the bytes of a body."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class FakeProvider:
    """Provider that issues the token of `make_token` for every code.

    `answers` replaces the response at a path; its value can be a function. `requests` are the paths, headers and forms
    that it received.
    """

    issuer: str = ""
    key: RSAKey | ECKey = field(default_factory=lambda: rsa_key("provider"))
    metadata: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    userinfo: dict[str, Any] = field(default_factory=dict)
    token: str | None = None
    answers: dict[str, Answer | Callable[[], Answer]] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str], dict[str, str]]] = field(default_factory=list)

    def reset(self) -> None:
        """Answer as at first, and forget the requests so far."""
        self.token = None
        for values in (self.metadata, self.claims, self.userinfo, self.answers, self.requests):
            values.clear()

    def approve(self, url: str, **claims: Any) -> dict[str, str]:
        """Sign in at the URL of the client. Return the parameters of the response. `claims` replace the usual ones."""
        params = authorization_params(url)
        self.claims = {"nonce": params["nonce"], **claims}
        return {"code": "code-1", "state": params["state"], "iss": self.issuer}

    def make_token(self, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """Return a signed ID token that is valid for a minute; None removes a claim."""
        usual = {"iss": self.issuer, "aud": CLIENT_ID, "sub": "user-1"}
        return sign_jwt(self.key, header, **{**usual, **self.claims, **claims})

    def paths(self) -> list[str]:
        """Return the paths of the requests so far."""
        return [path for path, _, _ in self.requests]

    def answer(self, path: str) -> Answer:
        """Return the response to a request."""
        if path in self.answers:
            chosen = self.answers[path]
            return chosen() if callable(chosen) else chosen
        match path:
            case _ if path == DISCOVERY:
                return Answer(self._metadata())
            case _ if path == JWKS:
                return Answer(make_jwks(self.key))
            case _ if path == TOKEN:
                return Answer(
                    {"token_type": "Bearer", "access_token": "at-1", "id_token": self.token or self.make_token()}
                )
            case _ if path == USERINFO:
                return Answer({"sub": "user-1", **self.userinfo})
        return Answer({"error": "not_found"}, 404)

    def _metadata(self) -> dict[str, Any]:
        usual = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": self.issuer + TOKEN,
            "jwks_uri": self.issuer + JWKS,
            "userinfo_endpoint": self.issuer + USERINFO,
        }
        return {name: value for name, value in {**usual, **self.metadata}.items() if value is not None}


def authorization_params(url: str) -> dict[str, str]:
    """Return the parameters of the request that the browser sends to the provider."""
    return dict(parse_qsl(urlsplit(url).query, strict_parsing=True))


@contextmanager
def serve_fake_provider() -> Iterator[FakeProvider]:
    """Run a provider on 127.0.0.1 until the block ends."""
    provider = FakeProvider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer({})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self._answer(dict(parse_qsl(body)))

        def _answer(self, form: dict[str, str]) -> None:
            path = urlsplit(self.path).path
            provider.requests.append((path, {name.lower(): value for name, value in self.headers.items()}, form))
            answer = provider.answer(path)
            body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            for name, value in {"Content-Length": str(len(body)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                self.wfile.write(body)
            except OSError:  # the client has closed the connection
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        provider.issuer = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield provider
        finally:
            server.shutdown()
            thread.join()
