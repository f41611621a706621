"""Signed requests (OAuth 1.0a): accepted from the client whose secret signed them, once."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from oauthlib.oauth1 import SIGNATURE_HMAC, SIGNATURE_HMAC_SHA256, Client

from backends import Backend
from chalk_flask.auth.clients.record import OAuthClient
from chalk_flask.auth.clients.store import ClientStore
from chalk_flask.auth.oauth1 import verifier as verifier_module
from chalk_flask.auth.oauth1.nonce_cache import MAX_AGE_SECONDS, MAX_AHEAD_SECONDS
from chalk_flask.auth.oauth1.verifier import MalformedRequestError, OAuth1Verifier, SignedRequest
from chalk_flask.auth.secrets.encryption import SECRETS_KEY_FILE, SecretCipher
from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.restrictions import AccessRestrictions
from chalk_flask.permissions.scopes import DEFAULT
from chalk_flask.tenants.store import CONTROL, TenantStore
from tests.auth.conftest import count_calls, wait_until
from tests.support.clock import FakeClock
from tests.support.paths import write_private

URL = "https://roster.example.org/ims/oneroster/v1p1/users"
UNKNOWN_KEY = "chk_client_" + "0" * 16


class Signer:
    """Client of oauthlib that uses a fake clock."""

    def __init__(self, key: str, secret: str, clock: FakeClock) -> None:
        self.key, self.secret, self.clock = key, secret, clock

    def timestamp(self, offset: int = 0) -> str:
        return str(int(self.clock.time()) + offset)

    def header(self, url: str = URL, method: str = "GET", **options: Any) -> str:
        options.setdefault("timestamp", self.timestamp())
        client = Client(self.key, self.secret, **options)
        _, headers, _ = client.sign(url, method)
        header: str = headers["Authorization"]
        return header.removeprefix("OAuth ")

    def request(self, url: str = URL, method: str = "GET", **options: Any) -> SignedRequest:
        return make_request(self.header(url, method, **options), url, method)


def make_request(authorization: str, url: str = URL, method: str = "GET") -> SignedRequest:
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    uri = f"{parts.scheme}://{parts.netloc}{parts.path}"
    return SignedRequest(method, uri, [(name.encode(), value.encode()) for name, value in pairs], authorization)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def clients(store: Backend, folder: Path, clock: FakeClock) -> ClientStore:
    return ClientStore(store, clock, SecretCipher(folder))


@pytest.fixture
def oauth_client(clients: ClientStore) -> OAuthClient:
    return clients.create("a signer", DEFAULT, oauth1=True)[1]


@pytest.fixture
def signer(oauth_client: OAuthClient, folder: Path, clock: FakeClock) -> Signer:
    return Signer(oauth_client.id, SecretCipher(folder).decrypt(oauth_client.secrets[0].ciphertext or ""), clock)


@pytest.fixture
def verifier(store: Backend, folder: Path, clock: FakeClock) -> OAuth1Verifier:
    return OAuth1Verifier(store, SecretCipher(folder), clock)


def is_accepted(verifier: OAuth1Verifier, request: SignedRequest) -> bool:
    return verifier.authenticate(request)[0] is not None


def test_accepted_requests_count_as_uses_of_the_client(
    store: Backend, folder: Path, clock: FakeClock, clients: ClientStore, signer: Signer
) -> None:
    uses: list[tuple[str, datetime | None]] = []
    verifier = OAuth1Verifier(store, SecretCipher(folder), clock, lambda *use: uses.append(use))
    request = signer.request()
    assert [is_accepted(verifier, request) for _ in range(2)] == [True, False]
    assert uses == [(signer.key, None)]
    clients.record_use(*uses[0])
    assert wait_until(lambda: clients.list()[0].last_used == clock.now)
    assert is_accepted(verifier, signer.request())
    assert uses[1:] == [(signer.key, clock.now)]


@pytest.mark.every_backend
@pytest.mark.reading("O-05")
@pytest.mark.parametrize("method", [SIGNATURE_HMAC, SIGNATURE_HMAC_SHA256])
def test_signed_request_has_the_tenant_and_restrictions_of_its_client(
    clients: ClientStore, store: Backend, verifier: OAuth1Verifier, clock: FakeClock, method: str
) -> None:
    TenantStore(store).create("north", demographics=True)
    restrictions = AccessRestrictions(orgs=frozenset({"org-1"}))
    secret, client = clients.create("a signer", DEFAULT, "north", restrictions=restrictions, oauth1=True)
    request = Signer(client.id, secret or "", clock).request(signature_method=method)
    principal, version = verifier.authenticate(request)
    assert principal == Principal("north", DEFAULT, client.id, restrictions, "client")
    assert version == store.version(CONTROL)


def test_tenant_without_opt_in_denies_demographics(
    clients: ClientStore, store: Backend, verifier: OAuth1Verifier, clock: FakeClock
) -> None:
    TenantStore(store).create("north")
    secret, client = clients.create("a signer", DEFAULT, "north", oauth1=True)
    principal, _ = verifier.authenticate(Signer(client.id, secret or "", clock).request())
    assert principal is not None
    assert principal.restrictions.denied == {"demographics"}


def test_base_string_of_the_example_in_rfc_5849() -> None:
    header = (
        'realm="Example", oauth_consumer_key="9djdj82h48djs9d2", oauth_token="kkk9d7dh3k39sjv7",'
        ' oauth_signature_method="HMAC-SHA1", oauth_timestamp="137131201", oauth_nonce="7d8f3e4a",'
        ' oauth_signature="bYT5CMsGcbgUdFHObYMEfcx6bsw%3D"'
    )
    pairs = [(b"b5", b"=%3D"), (b"a3", b"a"), (b"c@", b""), (b"a2", b"r b"), (b"c2", b""), (b"a3", b"2 q")]
    request = SignedRequest("POST", "http://EXAMPLE.com:80/request", pairs, header)
    assert verifier_module._parse(request).base_string(request) == (
        "POST&http%3A%2F%2Fexample.com%2Frequest&a2%3Dr%2520b%26a3%3D2%2520q%26a3%3Da%26b5%3D%253D%25253D%26c%2540%3D"
        "%26c2%3D%26oauth_consumer_key%3D9djdj82h48djs9d2%26oauth_nonce%3D7d8f3e4a%26oauth_signature_method%3D"
        "HMAC-SHA1%26oauth_timestamp%3D137131201%26oauth_token%3Dkkk9d7dh3k39sjv7"
    )


@pytest.mark.parametrize(
    "query",
    [
        "filter=givenName%3D'Colin%20Robert'",
        "filter=givenName%3D%27Colin+Robert%27&limit=5",
        "filter=familyName~'%C3%B6'&filter=b&filter=a",
        "a=1%2B1&b=%25&c=&d",
        "realm=of+the+query",
    ],
)
def test_query_is_signed_in_any_encoding(verifier: OAuth1Verifier, signer: Signer, query: str) -> None:
    assert is_accepted(verifier, signer.request(f"{URL}?{query}"))
    assert not is_accepted(verifier, make_request(signer.header(f"{URL}?{query}"), f"{URL}?{query}x"))


def escape_tilde(text: str) -> str:
    return quote(text, safe="").replace("~", "%7E")


def escape_correctly(text: str) -> str:
    return quote(text, safe="~")


def sign_by_hand(signer: Signer, uri: str, query: str, inner: Any, outer: Any, secret: str = "") -> SignedRequest:
    """Return a request signed by a client that escapes parameters with `inner` and the base string with `outer`."""
    parameters = VALID_PARAMS | {
        "oauth_consumer_key": signer.key, "oauth_timestamp": signer.timestamp(), "oauth_nonce": uuid.uuid4().hex,
    }  # fmt: skip
    del parameters["oauth_signature"]
    pairs = sorted((inner(name), inner(value)) for name, value in [*parse_qsl(query), *parameters.items()])
    text = "&".join(map(outer, ("GET", uri, "&".join(f"{name}={value}" for name, value in pairs))))
    digest = hmac.digest(f"{secret or signer.secret}&".encode(), text.encode(), "sha1")
    header = as_header(parameters | {"oauth_signature": base64.b64encode(digest).decode()})
    return make_request(header, f"{URL}/a~b?{query}")


@pytest.mark.reading("O-07")
@pytest.mark.parametrize("path", ["a~b", "a%7Eb"])
@pytest.mark.parametrize("inner", [escape_correctly, escape_tilde])
@pytest.mark.parametrize("outer", [escape_correctly, escape_tilde])
def test_tilde_may_be_escaped_in_the_base_string(
    verifier: OAuth1Verifier, signer: Signer, path: str, inner: Any, outer: Any
) -> None:
    query = "filter=familyName~'M'&a~=1&a0=2"  # the escaped name is sorted before a0, the other one after it
    assert is_accepted(verifier, sign_by_hand(signer, f"{URL}/{path}", query, inner, outer))
    assert not is_accepted(verifier, sign_by_hand(signer, f"{URL}/{path}", query, inner, outer, secret="wrong"))
    assert not is_accepted(verifier, sign_by_hand(signer, f"{URL}/a-b", query, inner, outer))


@pytest.mark.reading("O-02")
@pytest.mark.parametrize("method", [SIGNATURE_HMAC, SIGNATURE_HMAC_SHA256])
@pytest.mark.parametrize("body", ['{"result": {"score": 90}}', "[]"])
def test_body_must_have_the_hash_that_the_client_sent(
    verifier: OAuth1Verifier, signer: Signer, method: str, body: str
) -> None:
    """The library sends the SHA-1 with both methods. A client may send the SHA-256 with HMAC-SHA256."""
    kind = {"Content-Type": "application/json"}

    def send(received: bytes, **parameters: str) -> bool:
        client = Client(signer.key, signer.secret, signature_method=method, timestamp=signer.timestamp())
        _, headers, _ = client.sign(URL, "PUT", body, kind)
        assert "oauth_body_hash" in headers["Authorization"]
        request = make_request(headers["Authorization"].removeprefix("OAuth "), URL, "PUT")
        return is_accepted(verifier, replace(request, read_body=lambda: received))

    assert send(body.encode())
    assert not send(body.encode() + b" ")
    assert not send(body.replace("90", "91").replace("[]", "{}").encode())
    assert not send(b"")


@pytest.mark.reading("O-02")
@pytest.mark.parametrize(("method", "accepted"), [(SIGNATURE_HMAC, False), (SIGNATURE_HMAC_SHA256, True)])
def test_body_hash_may_be_of_the_signature_method(
    verifier: OAuth1Verifier, signer: Signer, method: str, accepted: bool
) -> None:
    class ClientWithSha256(Client):  # type: ignore[misc]  # the library ships no types
        def get_oauth_params(self, request: Any) -> Any:
            digest = base64.b64encode(hashlib.sha256(b"{}").digest()).decode()
            return [*super().get_oauth_params(request), ("oauth_body_hash", digest)]

    client = ClientWithSha256(signer.key, signer.secret, signature_method=method, timestamp=signer.timestamp())
    request = make_request(client.sign(URL, "PUT")[1]["Authorization"].removeprefix("OAuth "), URL, "PUT")
    assert is_accepted(verifier, replace(request, read_body=lambda: b"{}")) is accepted


def test_realm_in_the_header_is_not_signed(verifier: OAuth1Verifier, signer: Signer) -> None:
    assert is_accepted(verifier, signer.request(realm="anything"))
    assert is_accepted(verifier, make_request('realm="Photos", ' + signer.header()))


def test_oauth_version_is_optional(verifier: OAuth1Verifier, signer: Signer) -> None:
    class ClientWithoutVersion(Client):  # type: ignore[misc]  # the library ships no types
        def get_oauth_params(self, request: Any) -> Any:
            return [pair for pair in super().get_oauth_params(request) if pair[0] != "oauth_version"]

    client = ClientWithoutVersion(signer.key, signer.secret, timestamp=signer.timestamp())
    header = client.sign(URL)[1]["Authorization"].removeprefix("OAuth ")
    assert "oauth_version" not in header
    assert is_accepted(verifier, make_request(header))


def test_empty_token_is_ignored_and_other_token_is_rejected(verifier: OAuth1Verifier, signer: Signer) -> None:
    class ClientWithEmptyToken(Client):  # type: ignore[misc]  # the library ships no types
        def get_oauth_params(self, request: Any) -> Any:
            return [*super().get_oauth_params(request), ("oauth_token", "")]

    client = ClientWithEmptyToken(signer.key, signer.secret, timestamp=signer.timestamp())
    assert is_accepted(verifier, make_request(client.sign(URL)[1]["Authorization"].removeprefix("OAuth ")))
    assert not is_accepted(verifier, signer.request(resource_owner_key="a-token"))


def test_nonce_may_contain_any_character(verifier: OAuth1Verifier, signer: Signer) -> None:
    # No percent sign: oauthlib decodes parameters that begin with oauth_ once more than RFC 5849 does.
    assert is_accepted(verifier, signer.request(nonce="a b+c/ö=&\"',"))


@pytest.mark.parametrize(
    ("uri", "signed"),
    [
        ("https://Roster.Example.ORG/x", "https://roster.example.org/x"),
        ("https://roster.example.org:443/x", "https://roster.example.org/x"),
        ("http://roster.example.org:80/x", "http://roster.example.org/x"),
        ("http://roster.example.org:8080/x%2Fy", "http://roster.example.org:8080/x%2Fy"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
    ],
)
def test_host_and_port_are_normalized(verifier: OAuth1Verifier, signer: Signer, uri: str, signed: str) -> None:
    assert is_accepted(verifier, make_request(signer.header(signed), uri))


@pytest.mark.parametrize(
    "changes",
    [
        {"url": URL + "/"},
        {"url": URL.replace("users", "orgs")},
        {"url": URL.replace("https", "http")},
        {"url": URL.replace("roster.", "other.")},
        {"url": URL + "?limit=1"},
        {"method": "DELETE"},
    ],
)
def test_request_that_differs_from_the_signed_one_is_rejected(
    verifier: OAuth1Verifier, signer: Signer, changes: dict[str, str]
) -> None:
    assert not is_accepted(verifier, make_request(signer.header(), **changes))


def test_wrong_secret_and_unknown_key_are_rejected(verifier: OAuth1Verifier, signer: Signer, clock: FakeClock) -> None:
    assert not is_accepted(verifier, Signer(signer.key, signer.secret + "0", clock).request())
    for key in (UNKNOWN_KEY, " ", "ö", "\0", "a" * 5000):
        assert not is_accepted(verifier, Signer(key, signer.secret, clock).request())


def test_client_without_oauth1_is_rejected(clients: ClientStore, verifier: OAuth1Verifier, clock: FakeClock) -> None:
    secret, client = clients.create("no signer", DEFAULT)
    assert not is_accepted(verifier, Signer(client.id, secret or "", clock).request())


def test_request_is_accepted_once_with_any_method(verifier: OAuth1Verifier, signer: Signer) -> None:
    request = signer.request(nonce="once")
    assert is_accepted(verifier, request)
    assert not is_accepted(verifier, request)
    assert not is_accepted(verifier, signer.request(nonce="once", signature_method=SIGNATURE_HMAC_SHA256))
    assert is_accepted(verifier, signer.request(nonce="twice"))
    assert is_accepted(verifier, signer.request(nonce="once", timestamp=signer.timestamp(1)))


def test_rejected_request_uses_up_no_nonce(verifier: OAuth1Verifier, signer: Signer, clock: FakeClock) -> None:
    assert not is_accepted(verifier, Signer(signer.key, "wrong", clock).request(nonce="mine"))
    assert is_accepted(verifier, signer.request(nonce="mine"))


def test_same_request_of_many_threads_is_accepted_once(verifier: OAuth1Verifier, signer: Signer) -> None:
    request, barrier, results = signer.request(), threading.Barrier(8), list[bool]()

    def send() -> None:
        barrier.wait(120)
        results.append(is_accepted(verifier, request))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: send(), range(8)))
    assert sorted(results) == [False] * 7 + [True]


@pytest.mark.reading("O-03")
@pytest.mark.parametrize(
    ("offset", "accepted"),
    [
        (-MAX_AGE_SECONDS, True),
        (-MAX_AGE_SECONDS - 1, False),
        (MAX_AHEAD_SECONDS, True),
        (MAX_AHEAD_SECONDS + 1, False),
        (0, True),
    ],
)
def test_timestamp_may_be_ten_minutes_old_or_five_ahead(
    verifier: OAuth1Verifier, signer: Signer, offset: int, accepted: bool
) -> None:
    assert (MAX_AGE_SECONDS, MAX_AHEAD_SECONDS) == (600, 300)
    assert is_accepted(verifier, signer.request(timestamp=signer.timestamp(offset))) is accepted


def test_nonce_is_remembered_while_its_timestamp_is_valid(
    verifier: OAuth1Verifier, signer: Signer, clock: FakeClock
) -> None:
    request = signer.request(timestamp=signer.timestamp(MAX_AHEAD_SECONDS))
    assert is_accepted(verifier, request)
    for _ in range(15):
        clock.advance(seconds=61)
        assert not is_accepted(verifier, request)


VALID_PARAMS = {
    "oauth_consumer_key": "key",
    "oauth_signature_method": "HMAC-SHA1",
    "oauth_signature": "c2lnbmF0dXJl",
    "oauth_timestamp": "1935734400",
    "oauth_nonce": "nonce",
}


def as_header(parameters: dict[str, str]) -> str:
    return ", ".join(f'{name}="{quote(value, safe="")}"' for name, value in parameters.items())


@pytest.mark.parametrize("name", VALID_PARAMS)
@pytest.mark.parametrize("empty", [True, False])
def test_missing_parameter_is_named(verifier: OAuth1Verifier, name: str, empty: bool) -> None:
    parameters = (
        VALID_PARAMS | {name: ""} if empty else {param: VALID_PARAMS[param] for param in VALID_PARAMS if param != name}
    )
    with pytest.raises(MalformedRequestError, match=f"requires {name}"):
        verifier.authenticate(make_request(as_header(parameters)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"oauth_signature_method": "PLAINTEXT"}, "HMAC-SHA256 or HMAC-SHA1"),
        ({"oauth_signature_method": "hmac-sha1"}, "HMAC-SHA256 or HMAC-SHA1"),
        ({"oauth_version": "2.0"}, "oauth_version must be 1.0"),
        ({"oauth_version": ""}, "oauth_version must be 1.0"),
        ({"oauth_timestamp": "yesterday"}, "oauth_timestamp must be"),
        ({"oauth_timestamp": "-1"}, "oauth_timestamp must be"),
        ({"oauth_timestamp": "1e9"}, "oauth_timestamp must be"),
        ({"oauth_timestamp": "١٢٣"}, "oauth_timestamp must be"),
        ({"oauth_timestamp": "1" * 19}, "oauth_timestamp must be"),
        ({"oauth_nonce": "n" * 256}, "oauth_nonce must have at most 255"),
        ({"oauth_consumer_key": "k" * 9000}, "longer than 8192"),
    ],
)
def test_invalid_parameter_is_malformed(verifier: OAuth1Verifier, changes: dict[str, str], message: str) -> None:
    with pytest.raises(MalformedRequestError, match=message):
        verifier.authenticate(make_request(as_header(VALID_PARAMS | changes)))


@pytest.mark.parametrize(
    "header",
    [
        "",
        ",,",
        "token",
        '"',
        "=",
        'oauth_nonce="open',
        as_header(VALID_PARAMS) + ", x",
        'oauth_nonce="%FF", ' + as_header(VALID_PARAMS),
    ],
)
def test_header_that_is_not_a_parameter_list_is_malformed(verifier: OAuth1Verifier, header: str) -> None:
    with pytest.raises(MalformedRequestError):
        verifier.authenticate(make_request(header))


@pytest.mark.parametrize("name", [*VALID_PARAMS, "realm"])
def test_repeated_parameter_is_malformed(verifier: OAuth1Verifier, name: str) -> None:
    value = (VALID_PARAMS | {"realm": ""})[name]
    with pytest.raises(MalformedRequestError, match="more than once"):
        verifier.authenticate(make_request(f'{name}="{value}", ' + as_header({"realm": ""} | VALID_PARAMS)))


def test_oauth_parameter_in_the_query_is_malformed(verifier: OAuth1Verifier, signer: Signer) -> None:
    with pytest.raises(MalformedRequestError, match="in the Authorization header only"):
        verifier.authenticate(make_request(signer.header(), URL + "?oauth_nonce=another"))


def test_message_contains_no_value_of_the_request(verifier: OAuth1Verifier) -> None:
    for changes in ({"oauth_signature_method": "canary-1"}, {"oauth_version": "canary-2"}, {"oauth_nonce": ""}):
        with pytest.raises(MalformedRequestError) as error:
            verifier.authenticate(make_request(as_header(VALID_PARAMS | {"oauth_signature": "canary-3"} | changes)))
        assert "canary" not in str(error.value)


def test_revoked_client_and_deleted_tenant_are_rejected_at_once(
    clients: ClientStore, store: Backend, verifier: OAuth1Verifier, clock: FakeClock
) -> None:
    TenantStore(store).create("north")
    signers = []
    for tenant in ("default", "north"):
        secret, client = clients.create("a signer", DEFAULT, tenant, oauth1=True)
        signers.append(Signer(client.id, secret or "", clock))
    assert all(is_accepted(verifier, signer.request()) for signer in signers)
    clients.revoke(signers[0].key)
    TenantStore(store).delete("north")
    assert not any(is_accepted(verifier, signer.request()) for signer in signers)


def test_former_secret_signs_during_the_overlap_of_a_rotation(
    clients: ClientStore, verifier: OAuth1Verifier, signer: Signer, clock: FakeClock
) -> None:
    new_secret, _ = clients.rotate(signer.key, timedelta(hours=1))
    new_signer = Signer(signer.key, new_secret, clock)
    assert is_accepted(verifier, signer.request())
    assert is_accepted(verifier, new_signer.request())
    clock.advance(hours=1)
    assert not is_accepted(verifier, signer.request())
    assert is_accepted(verifier, new_signer.request())


def test_missing_key_file_is_logged_once_and_rejects_until_restored(
    store: Backend, folder: Path, signer: Signer, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    verifier, key = OAuth1Verifier(store, SecretCipher(folder), clock), (folder / SECRETS_KEY_FILE).read_bytes()
    (folder / SECRETS_KEY_FILE).unlink()
    with caplog.at_level(logging.DEBUG):
        assert not any(is_accepted(verifier, signer.request()) for _ in range(3))
    [line] = [record.getMessage() for record in caplog.records if record.name.startswith("chalk_flask")]
    assert line.startswith(f"requests of client {signer.key} with OAuth 1.0a are rejected")
    assert signer.secret not in line
    write_private(folder / SECRETS_KEY_FILE, key)
    assert is_accepted(verifier, signer.request())


def test_wrong_key_file_rejects_signed_requests(
    store: Backend, folder: Path, signer: Signer, clock: FakeClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    SecretCipher(tmp_path / "other").encrypt("x")
    assert not is_accepted(OAuth1Verifier(store, SecretCipher(tmp_path / "other"), clock), signer.request())
    assert "does not contain the key" in caplog.text
    assert is_accepted(OAuth1Verifier(store, SecretCipher(folder), clock), signer.request())


def test_unknown_key_costs_as_much_as_a_wrong_signature(
    verifier: OAuth1Verifier, signer: Signer, clock: FakeClock
) -> None:
    assert is_accepted(verifier, signer.request())
    known, unknown = (Signer(key, "wrong", clock).request() for key in (signer.key, UNKNOWN_KEY))
    known_calls = count_calls(lambda: is_accepted(verifier, known))
    unknown_calls = count_calls(lambda: is_accepted(verifier, unknown))
    assert 0.8 < known_calls / unknown_calls < 1.25
