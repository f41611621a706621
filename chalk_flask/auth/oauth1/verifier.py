"""OAuth 1.0a: requests that a client signs with its secret (RFC 5849; digest 9.2). Free of HTTP.

"Two-legged": a consumer key and its secret, no token. The base string is Authlib's; HMAC-SHA256, which RFC 5849 does
not have and OneRoster's clients use, differs from HMAC-SHA1 in the hash alone.
"""

from __future__ import annotations

import hmac
import logging
import re
import secrets
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
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
from chalk_flask.auth.oauth1.nonces import NonceCache
from chalk_flask.auth.secrets.encryption import SecretCipher, SecretUnavailableError
from chalk_flask.permissions.principal import Principal
from chalk_flask.tenants.store import CONTROL, DEFAULT_TENANT, apply_tenant_rules
from chalk_flask.times import utc_now

__all__ = ["MalformedRequestError", "OAuth1Verifier", "SignedRequest"]

log = logging.getLogger(__name__)

HASH_ALGORITHMS: Mapping[str, str] = MappingProxyType({"HMAC-SHA256": "sha256", "HMAC-SHA1": "sha1"})
REQUIRED_PARAMS = ("oauth_consumer_key", "oauth_signature_method", "oauth_signature", "oauth_timestamp", "oauth_nonce")

MAX_PARAM_LENGTH = 8192
"""Characters of an Authorization header that are read."""
MAX_NONCE_LENGTH = 255

_TIMESTAMP = re.compile(r"[0-9]{1,18}")

Pair: TypeAlias = tuple[bytes, bytes]


class MalformedRequestError(Exception):
    """A signed request that cannot be understood, whoever sent it; the message names what is wrong, and no secret."""


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What of an HTTP request a signature is about.

    `uri` is the address by which the client knows the resource, its path as it was sent, without a query; `parameters`
    are the names and values of query and form, decoded; `authorization` is what follows the scheme in the header, a
    character a byte.
    """

    method: str
    uri: str
    parameters: Sequence[Pair]
    authorization: str


class OAuth1Verifier:
    """The way in for clients that sign. Safe for use by many threads at once."""

    def __init__(self, store: Backend, vault: SecretCipher, now: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._vault = vault
        self._now = now
        self._nonces = NonceCache()
        self._cache: tuple[object, dict[str, _Client]] = (None, {})
        self._told: set[str] = set()
        self._decoy = _decoy()

    def authenticate(self, request: SignedRequest) -> tuple[Principal | None, object]:
        """What the request may do (None: nothing), and the stamp of the store at which that was so.

        Each request is let in once. Raises Malformed and StorageError.
        """
        given = _read(request)
        # The stamp is taken before the record is read: a commit in between makes the entry too old, never too new.
        stamp = self._store.version(CONTROL)
        moment = self._now()
        grant = self._authentic(given, request, stamp, moment)
        if grant is None or given.token:
            return None, stamp
        fresh = self._nonces.check_and_remember(given.key, given.timestamp, given.nonce, int(moment.timestamp()))
        return (grant if fresh else None), stamp

    def _authentic(
        self, given: _ProtocolParams, request: SignedRequest, stamp: object, moment: datetime
    ) -> Principal | None:
        at, known = self._cache
        held = known.get(given.key) if at == stamp else None
        client = held or self._looked_up(given.key, stamp)
        if client.signed(given, request, moment):
            return client.grant
        if held:
            # Who is not known was looked up just now: a wrong signature has to cost as much as a wrong key.
            self._looked_up(given.key, stamp)
        return None

    def _looked_up(self, key: str, stamp: object) -> _Client:
        """The client of that id; one that opens nothing, at the same price, when there is none that may sign."""
        with self._store.read(CONTROL) as snapshot:
            body = snapshot.get_many(COLLECTION, [key]).get(key, self._decoy)
            record = OAuthClient.parse(body)
            signs = record.revoked is None and record.uses_oauth1
            grant = apply_tenant_rules(snapshot, record.principal)
        held = self._opened(record if signs else OAuthClient.parse(self._decoy))
        client = _Client(held or _UNOPENED, grant if signs and held else None)
        if client.grant is not None:
            self._keep(key, stamp, client)
        return client

    def _opened(self, record: OAuthClient) -> tuple[_Secret, ...]:
        try:
            held = tuple((self._vault.decrypt(kept.sealed), kept.until) for kept in record.secrets if kept.sealed)
        except SecretUnavailableError as error:
            if record.id and record.id not in self._told:
                self._told.add(record.id)
                log.warning("client %s cannot sign in with OAuth 1.0a: %s", record.id, error)
            return ()
        self._told.discard(record.id)
        return held

    def _keep(self, key: str, stamp: object, client: _Client) -> None:
        at, known = self._cache
        if at != stamp:
            known = {}
            self._cache = (stamp, known)
        known[key] = client


_Secret: TypeAlias = tuple[str, datetime | None]

_UNOPENED: tuple[_Secret, ...] = ((secrets.token_hex(32), None),)


@dataclass(frozen=True, slots=True)
class _Client:
    """A client that may sign, with what it is granted; without a grant whatever it signs is refused."""

    secrets: tuple[_Secret, ...] = field(repr=False)
    grant: Principal | None

    def signed(self, given: _ProtocolParams, request: SignedRequest, moment: datetime) -> bool:
        """Whether the signature is of one of the secrets that are valid at that moment."""
        text = given.base_string(request)
        valid = [secret for secret, until in self.secrets if until is None or moment < until]
        # Each is compared, also after one that matched: how long it takes tells nothing.
        same = [hmac.compare_digest(given.signature, _signature(text, secret, given.hash)) for secret in valid]
        return any(same)


@dataclass(frozen=True, slots=True)
class _ProtocolParams:
    """The protocol parameters of a request, and all of the header that is signed."""

    key: str
    hash: str
    signature: bytes
    timestamp: int
    nonce: str
    token: str
    header: tuple[Pair, ...]

    def base_string(self, request: SignedRequest) -> str:
        """RFC 5849, section 3.4.1.1."""
        # Authlib puts these three together as well, but leaves out a `realm` of the query, which is signed, and decodes
        # the parameters of the header twice.
        uri, parameters = normalize_base_string_uri(request.uri), [*request.parameters, *self.header]
        return "&".join(map(escape, (request.method.upper(), uri, normalize_parameters(parameters))))


def _signature(base_string: str, secret: str, hashed: str) -> bytes:
    """RFC 5849, section 3.4.2; there is no token, so its secret is empty."""
    return b64encode(hmac.digest(f"{escape(secret)}&".encode(), base_string.encode(), hashed))


def _read(request: SignedRequest) -> _ProtocolParams:
    if len(request.authorization) > MAX_PARAM_LENGTH:
        raise MalformedRequestError(f"The Authorization header is longer than {MAX_PARAM_LENGTH} characters.")
    if any(name.startswith(b"oauth_") for name, _ in request.parameters):
        raise MalformedRequestError(
            "Parameters that begin with oauth_ have their place in the Authorization header alone."
        )
    header = _pairs(request.authorization)
    given = {name.decode("latin-1"): _text(value) for name, value in header}
    if len(given) < len(header):
        raise MalformedRequestError("A parameter stands in the Authorization header more than once.")
    if missing := [name for name in REQUIRED_PARAMS if not given.get(name)]:
        raise MalformedRequestError(f"The Authorization header is without {' and '.join(missing)}.")
    return _checked(given, tuple(pair for pair in header if pair[0] not in (b"realm", b"oauth_signature")))


def _checked(given: Mapping[str, str], signed: tuple[Pair, ...]) -> _ProtocolParams:
    if given.get("oauth_version", "1.0") != "1.0":
        raise MalformedRequestError("oauth_version must be 1.0, or be left out.")
    if given["oauth_signature_method"] not in HASH_ALGORITHMS:
        raise MalformedRequestError(f"oauth_signature_method must be {' or '.join(HASH_ALGORITHMS)}.")
    if not _TIMESTAMP.fullmatch(given["oauth_timestamp"]):
        raise MalformedRequestError("oauth_timestamp must be whole seconds since 1970, in digits.")
    if len(given["oauth_nonce"]) > MAX_NONCE_LENGTH:
        raise MalformedRequestError(f"oauth_nonce must have at most {MAX_NONCE_LENGTH} characters.")
    return _ProtocolParams(
        key=given["oauth_consumer_key"],
        hash=HASH_ALGORITHMS[given["oauth_signature_method"]],
        signature=given["oauth_signature"].encode(),
        timestamp=int(given["oauth_timestamp"]),
        nonce=given["oauth_nonce"],
        token=given.get("oauth_token", ""),
        header=signed,
    )


def _pairs(authorization: str) -> list[Pair]:
    """The parameters of the header, decoded (RFC 5849, section 3.5.1); quotes around a value may be missing."""
    pairs = []
    for item in parse_http_list(authorization):
        name, equals, value = item.partition("=")
        value = value.strip()
        if value.startswith('"'):
            value, equals = value[1:-1], equals if value.endswith('"') and len(value) > 1 else ""
        if not equals:
            raise MalformedRequestError(
                'The Authorization header is not a list of parameters such as oauth_version="1.0".'
            )
        pairs.append((_decoded(name.strip()), _decoded(value)))
    return pairs


def _decoded(text: str) -> bytes:
    return unquote_to_bytes(text.encode("latin-1", "replace"))


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise MalformedRequestError("A parameter in the Authorization header is not UTF-8.") from error


def _decoy() -> bytes:
    """The stored form of a client that nobody is: looking it over costs what looking over a client does."""
    sealed = Fernet(Fernet.generate_key()).encrypt(secrets.token_hex(32).encode()).decode()
    kept = StoredSecret("0" * 64, sealed=sealed)
    record = OAuthClient(id="", label="", tenant=DEFAULT_TENANT, scopes=frozenset(), created=utc_now(), secrets=(kept,))
    return record.to_record().body
