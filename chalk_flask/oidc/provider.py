"""Identity provider: its endpoints (OpenID Connect Discovery 1.0), its keys, and requests to it."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import orjson

from chalk_flask.auth.jwt.jwks import InvalidKeySetError, JwkSet, parse_jwk_set
from chalk_flask.https.client import ResponseTooLargeError, send_request
from chalk_flask.https.connection import HttpResponse
from chalk_flask.https.url import InvalidUrlError, parse_url
from chalk_flask.oidc.errors import ProviderError

__all__ = ["Provider", "ProviderMetadata", "request_json"]

METADATA_SECONDS = 3600.0
"""Time for which the endpoints and the keys of the provider are cached."""
FAILURE_SECONDS = 5.0
"""Time for which a failure is cached, so that a provider that is down does not occupy a thread for each attempt."""
KEY_RETRY_SECONDS = 30.0
"""Minimum time between two requests for the keys because of a token with an unknown key."""

T = TypeVar("T")

_JSON = {"Accept": "application/json"}
_DISCOVERY_PATH = "/.well-known/openid-configuration"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderMetadata:
    """Endpoints of a provider, and what it supports. A missing list is None."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None
    scopes: frozenset[str] | None
    auth_methods: frozenset[str] | None
    sends_issuer: bool


class Provider:
    """Identity provider with this issuer. Thread-safe: other callers wait for a request that is running.

    `clock` returns seconds.
    """

    def __init__(self, issuer: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.issuer = issuer
        self._metadata = _Cached(self._fetch_metadata, clock)
        self._keys = _Cached(self._fetch_keys, clock)

    def metadata(self) -> ProviderMetadata:
        """Return the endpoints of the provider. Raises ProviderError."""
        return self._metadata.get()

    def keys_for(self, algorithm: str, kid: str | None) -> JwkSet:
        """Return the keys of the provider. They are fetched again if none matches. Raises ProviderError."""
        keys = self._keys.get()
        return keys if keys.matching(algorithm, kid) else self._keys.refresh(KEY_RETRY_SECONDS)

    def _fetch_metadata(self) -> ProviderMetadata:
        response = request_json(self.issuer.rstrip("/") + _DISCOVERY_PATH, "endpoints")
        if response.get("issuer") != self.issuer:
            raise ProviderError("the provider has another issuer than the setting oidc_issuer: compare them exactly")
        return ProviderMetadata(
            authorization_endpoint=_endpoint(response, "authorization_endpoint"),
            token_endpoint=_endpoint(response, "token_endpoint"),
            jwks_uri=_endpoint(response, "jwks_uri"),
            userinfo_endpoint=_endpoint(response, "userinfo_endpoint") if "userinfo_endpoint" in response else None,
            scopes=_texts(response, "scopes_supported"),
            auth_methods=_texts(response, "token_endpoint_auth_methods_supported"),
            sends_issuer=response.get("authorization_response_iss_parameter_supported") is True,
        )

    def _fetch_keys(self) -> JwkSet:
        response = _request(self.metadata().jwks_uri, "keys", _JSON)
        if response.status != 200:
            raise ProviderError(f"the response to the request for keys has the status {response.status}")
        try:
            return parse_jwk_set(response.body, strict=False)
        except InvalidKeySetError as error:
            raise ProviderError("the keys of the provider are invalid") from error


class _Cached(Generic[T]):
    """Result of a request to the provider, or its failure. One request runs at a time."""

    def __init__(self, fetch: Callable[[], T], clock: Callable[[], float]) -> None:
        self._fetch, self._clock = fetch, clock
        self._lock = threading.Lock()
        self._value: T | None = None
        self._failure = ""
        self._fetched = self._expires = float("-inf")

    def get(self) -> T:
        """Return the cached result, or fetch it. Raises ProviderError."""
        with self._lock:
            if self._clock() >= self._expires:
                self._update()
            return self._current()

    def refresh(self, min_age: float) -> T:
        """Fetch the result again if it is older than `min_age` seconds, and return it. Raises ProviderError."""
        with self._lock:
            if self._clock() >= self._fetched + min_age:
                self._update()
            return self._current()

    def _update(self) -> None:
        try:
            self._value, self._failure = self._fetch(), ""
        except ProviderError as error:
            self._value, self._failure = None, str(error)
        self._fetched = self._clock()
        self._expires = self._fetched + (FAILURE_SECONDS if self._value is None else METADATA_SECONDS)

    def _current(self) -> T:
        if self._value is None:
            raise ProviderError(self._failure)
        return self._value


def request_json(
    url: str, subject: str, headers: Mapping[str, str] = _JSON, body: bytes | None = None, *, any_status: bool = False
) -> dict[str, Any]:
    """Return the JSON object of a response with status 200, or with `any_status` below 500. Raises ProviderError.

    `subject` says in messages what was requested.
    """
    response = _request(url, subject, headers, body)
    if response.status != 200 and not (any_status and response.status < 500):
        raise ProviderError(f"the response to the request for {subject} has the status {response.status}")
    try:
        data = orjson.loads(response.body)
    except ValueError as error:
        raise ProviderError(f"the response to the request for {subject} is not JSON") from error
    if not isinstance(data, dict):
        raise ProviderError(f"the response to the request for {subject} is not an object")
    return data


def _request(url: str, subject: str, headers: Mapping[str, str], body: bytes | None = None) -> HttpResponse:
    try:
        return send_request(url, headers, body)
    except (http.client.HTTPException, ValueError) as error:  # their text comes from the other server
        raise ProviderError(f"the request for {subject} failed: {type(error).__name__}") from error
    except (OSError, ResponseTooLargeError) as error:
        raise ProviderError(f"the request for {subject} failed: {error}") from error


def _endpoint(response: Mapping[str, Any], name: str) -> str:
    url = response.get(name)
    try:
        return parse_url(url if isinstance(url, str) else "").geturl()
    except InvalidUrlError as error:
        raise ProviderError(f"the {name} of the provider is not an https URL") from error


def _texts(response: Mapping[str, Any], name: str) -> frozenset[str] | None:
    values = response.get(name)
    return frozenset(value for value in values if isinstance(value, str)) if isinstance(values, list) else None
