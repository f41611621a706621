"""Verifier of requests that an OAuth client signs with its secret (OAuth 1.0a, RFC 5849). Independent of HTTP.

The requests are "two-legged": they have a consumer key and its secret, but no token. The base string is Authlib's.
HMAC-SHA256 is not in RFC 5849, but clients of OneRoster use it; it differs from HMAC-SHA1 in the hash only. Two other
deviations are accepted (docs/conformance, O-02 and O-07): `~` as `%7E`, and a body hash that is always SHA-1.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import TypeAlias
from urllib.parse import unquote_to_bytes
from urllib.request import parse_http_list

from authlib.oauth1.rfc5849.signature import normalize_base_string_uri, normalize_parameters
from authlib.oauth1.rfc5849.util import escape
from cryptography.fernet import Fernet

from backends import Backend
from chalk_flask.auth.clients.record import OAuthClient, StoredSecret
from chalk_flask.auth.clients.store import COLLECTION
from chalk_flask.auth.oauth1.nonce_cache import NonceCache
from chalk_flask.auth.rejections import note_rejection
from chalk_flask.auth.secrets.encryption import SecretCipher, SecretUnavailableError
from chalk_flask.caching import VersionedCache
from chalk_flask.permissions.principal import Principal
from chalk_flask.shared_state import SharedState
from chalk_flask.tenants.store import CONTROL, DEFAULT_TENANT, apply_tenant_rules
from chalk_flask.times import utc_now

__all__ = ["MalformedRequestError", "OAuth1Verifier", "SignedRequest"]

log = logging.getLogger(__name__)

HASH_ALGORITHMS: Mapping[str, str] = MappingProxyType({"HMAC-SHA256": "sha256", "HMAC-SHA1": "sha1"})
REQUIRED_PARAMS = ("oauth_consumer_key", "oauth_signature_method", "oauth_signature", "oauth_timestamp", "oauth_nonce")

MAX_HEADER_LENGTH = 8192
"""Maximum length of the Authorization header."""
MAX_NONCE_LENGTH = 255
MAX_CACHED_CLIENTS = 4096

_TIMESTAMP = re.compile(r"[0-9]{1,18}")
_ESCAPED_TILDE = re.compile("%7e", re.IGNORECASE)

Pair: TypeAlias = tuple[bytes, bytes]
_Secret: TypeAlias = tuple[str, datetime | None]


class MalformedRequestError(Exception):
    """Error of a signed request that is malformed. The message contains no secret."""


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """Parts of an HTTP request that a signature covers.

    `uri` is the URL without a query by which the client addresses the resource, its path as it was sent. `parameters`
    are the decoded names and values of query and form. `authorization` is the header after its scheme, one character
    per byte. `read_body` returns the body, which is read only if the client sent its hash.
    """

    method: str
    uri: str
    parameters: Sequence[Pair]
    authorization: str
    read_body: Callable[[], bytes] = bytes


class OAuth1Verifier:
    """Verifier of signed requests. Thread-safe.

    `on_use` is called with the id of the client of each accepted request, and the stored time of its last use.
    """

    def __init__(
        self,
        store: Backend,
        cipher: SecretCipher,
        now: Callable[[], datetime] = utc_now,
        on_use: Callable[[str, datetime | None], None] | None = None,
        shared_state: SharedState | None = None,
    ) -> None:
        self._store = store
        self._on_use = on_use
        self._cipher = cipher
        self._now = now
        self._nonces = NonceCache(shared_state=shared_state)
        self._cache: VersionedCache[str, _Signer] = VersionedCache(MAX_CACHED_CLIENTS)
        self._warned: set[str] = set()
        self._stand_in = _make_stand_in()

    def authenticate(self, request: SignedRequest) -> tuple[Principal | None, object]:
        """Return the principal of the request, or None, and the store version at which the client was read.

        A request is accepted once. Raises MalformedRequestError and StorageError.
        """
        params = _parse(request)
        # Take the version before the client is read: a commit in between makes the entry too old, never too new.
        version = self._store.version(CONTROL)
        now = self._now()
        principal = self._verify(params, request, version, now)
        if principal is None or params.token or not params.has_hash_of_body(request):
            note_rejection(_reason(principal, params))
            return None, version
        if self._nonces.check_and_remember(params.key, params.timestamp, params.nonce, int(now.timestamp())):
            self._record_use(params.key, version)
            return principal, version
        note_rejection(
            f"the timestamp of client {principal.credential_id} is too old or too new, or its nonce was used"
        )
        return None, version

    def _record_use(self, client_id: str, version: object) -> None:
        signer = self._cache.get(client_id, version)
        if self._on_use is not None and signer is not None:
            self._on_use(client_id, signer.last_used)

    def _verify(
        self, params: _ProtocolParams, request: SignedRequest, version: object, now: datetime
    ) -> Principal | None:
        cached = self._cache.get(params.key, version)
        signer = cached or self._read_signer(params.key, version)
        if signer.has_signed(params, request, now):
            return signer.principal
        if cached:
            # An unknown client was just read from the store: a wrong signature must take as long.
            self._read_signer(params.key, version)
        return None

    def _read_signer(self, client_id: str, version: object) -> _Signer:
        """Return the client with its secrets, or a stand-in without a principal if the client cannot sign."""
        with self._store.read(CONTROL) as snapshot:
            body = snapshot.get_many(COLLECTION, [client_id]).get(client_id, self._stand_in)
            client = OAuthClient.parse(body)
            can_sign = client.revoked is None and client.uses_oauth1
            principal = apply_tenant_rules(snapshot, client.principal)
        client_secrets = self._decrypt_secrets(client if can_sign else OAuthClient.parse(self._stand_in))
        signer = _Signer(
            client_secrets or _RANDOM_SECRETS, principal if can_sign and client_secrets else None, client.last_used
        )
        if signer.principal is not None:
            self._cache.put(client_id, version, signer)
        return signer

    def _decrypt_secrets(self, client: OAuthClient) -> tuple[_Secret, ...]:
        try:
            decrypted = tuple(
                (self._cipher.decrypt(secret.ciphertext), secret.valid_until)
                for secret in client.secrets
                if secret.ciphertext
            )
        except SecretUnavailableError as error:
            if client.id and client.id not in self._warned:
                self._warned.add(client.id)
                log.warning("requests of client %s with OAuth 1.0a are rejected: %s", client.id, error)
            return ()
        self._warned.discard(client.id)
        return decrypted


def _reason(principal: Principal | None, params: _ProtocolParams) -> str:
    """Return why a signed request is rejected. Only a verified client is named: an unknown id may be a secret."""
    if principal is None:
        return "the OAuth 1.0a signature does not match, or the client is unknown or revoked"
    part = "oauth_token must be empty" if params.token else "the hash of the body does not match"
    return f"the signed request of client {principal.credential_id} is rejected: {part}"


_RANDOM_SECRETS: tuple[_Secret, ...] = ((secrets.token_hex(32), None),)


@dataclass(frozen=True, slots=True)
class _Signer:
    """Client with its decrypted secrets. If `principal` is None, all signatures are rejected."""

    secrets: tuple[_Secret, ...] = field(repr=False)
    principal: Principal | None
    last_used: datetime | None

    def has_signed(self, params: _ProtocolParams, request: SignedRequest, now: datetime) -> bool:
        texts = list(params.base_strings(request))
        valid = [secret for secret, valid_until in self.secrets if valid_until is None or now < valid_until]
        # Compare all secrets, even after a match, so that the duration is always the same.
        matches = [
            hmac.compare_digest(params.signature, _sign(text, secret, params.hash))
            for secret in valid
            for text in texts
        ]
        return any(matches)


@dataclass(frozen=True, slots=True)
class _ProtocolParams:
    """Protocol parameters of a request. `header` has all parameters of the header that are signed."""

    key: str
    hash: str
    signature: bytes
    timestamp: int
    nonce: str
    token: str
    body_hash: str | None
    header: tuple[Pair, ...]

    def base_string(self, request: SignedRequest) -> str:
        """Return the signature base string (RFC 5849, section 3.4.1.1)."""
        # Authlib's own function omits a `realm` of the query, which is signed, and decodes the header twice.
        uri, parameters = normalize_base_string_uri(request.uri), [*request.parameters, *self.header]
        return "&".join(map(escape, (request.method.upper(), uri, normalize_parameters(parameters))))

    def base_strings(self, request: SignedRequest) -> Iterator[str]:
        """Yield the signature base string, and then the forms of it that are accepted too (docs/conformance, O-07)."""
        text = self.base_string(request)
        yield text
        if "~" in text or "%257E" in text.upper():
            yield from self._forms_with_escaped_tilde(request)

    def _forms_with_escaped_tilde(self, request: SignedRequest) -> Iterator[str]:
        """Yield the base strings of clients that escape `~` in parameters, in the whole text, or in the path."""
        uri, parameters = normalize_base_string_uri(request.uri), [*request.parameters, *self.header]
        uris = dict.fromkeys((uri, _ESCAPED_TILDE.sub("~", uri), uri.replace("~", "%7E")))
        lists = [
            "&".join(
                f"{name}={value}" for name, value in sorted((quote(name), quote(value)) for name, value in parameters)
            )
            for quote in (escape, _escape_with_tilde)
        ]
        for quote in (escape, _escape_with_tilde):
            for each_uri in uris:
                for each_list in lists:
                    yield "&".join(map(quote, (request.method.upper(), each_uri, each_list)))

    def has_hash_of_body(self, request: SignedRequest) -> bool:
        """Return True if the body has the hash that the client sent, or if it sent none (docs/conformance, O-02)."""
        if self.body_hash is None:
            return True
        body = request.read_body()
        hashes = [b64encode(hashlib.new(name, body).digest()) for name in (self.hash, "sha1")]
        return any(hmac.compare_digest(self.body_hash.encode(), each) for each in hashes)


def _escape_with_tilde(text: str | bytes) -> str:
    escaped: str = escape(text)
    return escaped.replace("~", "%7E")


def _sign(base_string: str, secret: str, hash_name: str) -> bytes:
    # RFC 5849, section 3.4.2: the key ends with the secret of the token, which is empty without a token.
    return b64encode(hmac.digest(f"{escape(secret)}&".encode(), base_string.encode(), hash_name))


def _parse(request: SignedRequest) -> _ProtocolParams:
    if len(request.authorization) > MAX_HEADER_LENGTH:
        raise MalformedRequestError(f"The Authorization header is longer than {MAX_HEADER_LENGTH} characters.")
    if any(name.startswith(b"oauth_") for name, _ in request.parameters):
        raise MalformedRequestError("Parameters that begin with oauth_ must be in the Authorization header only.")
    pairs = _parse_header(request.authorization)
    params = {name.decode("latin-1"): _decode_text(value) for name, value in pairs}
    if len(params) < len(pairs):
        raise MalformedRequestError("The Authorization header contains a parameter more than once.")
    if missing := [name for name in REQUIRED_PARAMS if not params.get(name)]:
        raise MalformedRequestError(f"The Authorization header requires {' and '.join(missing)}.")
    return _check_params(params, tuple(pair for pair in pairs if pair[0] not in (b"realm", b"oauth_signature")))


def _check_params(params: Mapping[str, str], signed: tuple[Pair, ...]) -> _ProtocolParams:
    if params.get("oauth_version", "1.0") != "1.0":
        raise MalformedRequestError("oauth_version must be 1.0 or missing.")
    if params["oauth_signature_method"] not in HASH_ALGORITHMS:
        raise MalformedRequestError(f"oauth_signature_method must be {' or '.join(HASH_ALGORITHMS)}.")
    if not _TIMESTAMP.fullmatch(params["oauth_timestamp"]):
        raise MalformedRequestError("oauth_timestamp must be whole seconds since 1970, in digits.")
    if len(params["oauth_nonce"]) > MAX_NONCE_LENGTH:
        raise MalformedRequestError(f"oauth_nonce must have at most {MAX_NONCE_LENGTH} characters.")
    return _ProtocolParams(
        key=params["oauth_consumer_key"],
        hash=HASH_ALGORITHMS[params["oauth_signature_method"]],
        signature=params["oauth_signature"].encode(),
        timestamp=int(params["oauth_timestamp"]),
        nonce=params["oauth_nonce"],
        token=params.get("oauth_token", ""),
        body_hash=params.get("oauth_body_hash"),
        header=signed,
    )


def _parse_header(authorization: str) -> list[Pair]:
    """Return the decoded parameters (RFC 5849, section 3.5.1); quotes around a value are optional."""
    pairs = []
    for item in parse_http_list(authorization):
        name, equals, value = item.partition("=")
        value = value.strip()
        if value.startswith('"'):
            value, equals = value[1:-1], equals if value.endswith('"') and len(value) > 1 else ""
        if not equals:
            raise MalformedRequestError(
                'The Authorization header must be a list of parameters such as oauth_version="1.0".'
            )
        pairs.append((_percent_decode(name.strip()), _percent_decode(value)))
    return pairs


def _percent_decode(text: str) -> bytes:
    return unquote_to_bytes(text.encode("latin-1", "replace"))


def _decode_text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise MalformedRequestError("A parameter in the Authorization header must be percent-encoded UTF-8.") from error


def _make_stand_in() -> bytes:
    """Return the stored form of a client that does not exist: verifying it takes as long as for a real client."""
    encrypted = Fernet(Fernet.generate_key()).encrypt(secrets.token_hex(32).encode()).decode()
    client = OAuthClient(
        id="",
        label="",
        tenant=DEFAULT_TENANT,
        scopes=frozenset(),
        created=utc_now(),
        secrets=(StoredSecret("0" * 64, ciphertext=encrypted),),
    )
    return client.to_record(client.id).body
