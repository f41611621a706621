"""Authorization of requests to a provider: bearer token, OAuth 2 client credentials, or OAuth 1.0a signatures."""

from __future__ import annotations

import hmac
import secrets
import time
from base64 import b64encode
from collections.abc import Mapping
from typing import Final, Protocol
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import orjson
from authlib.oauth1.rfc5849.signature import normalize_base_string_uri, normalize_parameters
from authlib.oauth1.rfc5849.util import escape

from chalk_flask.permissions.scopes import DEMOGRAPHICS, ROSTER, ROSTER_CORE
from chalk_flask.sources.client.http_client import HttpClient, HttpResponse
from chalk_flask.sources.errors import SourceError, StatusError

__all__ = ["Authorizer", "BearerAuthorizer", "OAuth1Authorizer", "OAuth2Authorizer"]

MAX_TOKEN_LENGTH: Final = 16_384


_INVALID_CREDENTIAL: Final = "the credential is invalid or expired: give the source a valid one"


class Authorizer(Protocol):
    """Protocol of objects that return the headers by which a provider authenticates this service."""

    unauthorized_advice: str
    """Causes of the status 401, and what to do, as the end of a sentence."""

    def headers(self, url: str) -> Mapping[str, str]:
        """Return the headers for a GET of a URL. Raises SourceError."""
        ...

    def renew(self) -> bool:
        """Drop an access token that the provider has rejected. Return False if a new one cannot be obtained."""
        ...


class BearerAuthorizer:
    """Authorizer with a bearer token that does not change."""

    unauthorized_advice = _INVALID_CREDENTIAL

    def __init__(self, token: str) -> None:
        self._token = token

    def headers(self, url: str) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self._token}"}

    def renew(self) -> bool:
        return False


class OAuth1Authorizer:
    """Authorizer that signs each request with OAuth 1.0a and HMAC-SHA256 (OneRoster 1.1, section 3.6)."""

    unauthorized_advice = (
        "the credential or the signature is invalid: check client id, secret and the clock of this machine, and compare"
        " the URL of the source with the address for which the provider verifies signatures. If the provider is"
        " Chalk Flask, that address is its public_url, and its client must be created with `client create --oauth1`"
    )

    def __init__(self, client_id: str, secret: str) -> None:
        self._client_id, self._secret = client_id, secret

    def headers(self, url: str) -> Mapping[str, str]:
        params = {
            "oauth_consumer_key": self._client_id,
            "oauth_nonce": secrets.token_hex(16),
            "oauth_signature_method": "HMAC-SHA256",
            "oauth_timestamp": str(int(time.time())),
            "oauth_version": "1.0",
        }
        params["oauth_signature"] = self._sign(url, params)
        pairs = ", ".join(f'{name}="{escape(value)}"' for name, value in params.items())
        return {"Authorization": f"OAuth {pairs}"}

    def renew(self) -> bool:
        return False

    def _sign(self, url: str, params: Mapping[str, str]) -> str:
        parts = urlsplit(url)
        uri = normalize_base_string_uri(urlunsplit(parts._replace(query="")))
        pairs = [*parse_qsl(parts.query, keep_blank_values=True), *params.items()]
        text = "&".join(map(escape, ("GET", uri, normalize_parameters(pairs))))
        digest = hmac.digest(f"{escape(self._secret)}&".encode(), text.encode(), "sha256")
        return b64encode(digest).decode()


class OAuth2Authorizer:
    """Authorizer that obtains access tokens with client credentials (RFC 6749, section 4.4)."""

    unauthorized_advice = _INVALID_CREDENTIAL

    def __init__(
        self, client: HttpClient, token_url: str, client_id: str, secret: str, *, with_demographics: bool
    ) -> None:
        self._client, self._token_url, self._client_id, self._secret = client, token_url, client_id, secret
        scopes = (ROSTER_CORE, ROSTER, DEMOGRAPHICS) if with_demographics else (ROSTER_CORE, ROSTER)
        self._requests = [{"scope": " ".join(scopes)}, {"scope": ROSTER_CORE}, {}]
        """Parameters of token requests. The next ones are tried if the provider rejects the scopes."""
        self._token: str | None = None

    def headers(self, url: str) -> Mapping[str, str]:
        if self._token is None:
            self._token = self._obtain_token()
        return {"Authorization": f"Bearer {self._token}"}

    def renew(self) -> bool:
        self._token = None
        return True

    def _obtain_token(self) -> str:
        while True:
            response = self._request_token(self._requests[0])
            if response.status == 400 and len(self._requests) > 1:
                del self._requests[0]
                continue
            return _parse_token(response)

    def _request_token(self, params: Mapping[str, str]) -> HttpResponse:
        # RFC 6749, section 2.3.1: both parts are encoded before they are joined.
        pair = f"{quote(self._client_id, safe='')}:{quote(self._secret, safe='')}"
        headers = {
            "Authorization": f"Basic {b64encode(pair.encode()).decode()}",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        body = urlencode({"grant_type": "client_credentials", **params}).encode()
        return self._client.send("POST", self._token_url, lambda _: headers, body)


def _parse_token(response: HttpResponse) -> str:
    if response.status in (400, 401, 403):
        raise StatusError(
            f"the provider rejects the client at its token endpoint (status {response.status}): check client id,"
            " secret and token URL of the source",
            response.status,
        )
    try:
        data = orjson.loads(response.body)
    except ValueError:
        data = None
    token = data.get("access_token") if response.status == 200 and isinstance(data, dict) else None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or len(token) > MAX_TOKEN_LENGTH:
        raise SourceError(
            f"the token endpoint of the provider returns no access token (status {response.status}): check the token"
            " URL of the source"
        )
    return token
