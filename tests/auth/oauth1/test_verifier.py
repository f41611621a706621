"""A signature lets in the client whose secret made it, for the request that was signed, once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from oauthlib.oauth1 import SIGNATURE_HMAC, SIGNATURE_HMAC_SHA256, Client

from backends import Backend, open_store
from chalk_flask.auth.clients.store import ClientStore, OAuthClient
from chalk_flask.auth.oauth1 import verifier
from chalk_flask.auth.oauth1.nonces import MAX_AGE_SECONDS, MAX_AHEAD_SECONDS, NonceCache
from chalk_flask.auth.oauth1.verifier import MalformedRequestError, OAuth1Verifier, SignedRequest
from chalk_flask.auth.secrets.encryption import KEY_FILE_NAME, SecretCipher
from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.restrictions import AccessRestrictions
from chalk_flask.permissions.scopes import DEFAULT
from chalk_flask.storage import COLLECTIONS
from chalk_flask.tenants.store import COLLECTION as TENANTS
from chalk_flask.tenants.store import CONTROL, Tenant

MORNING = datetime(2031, 5, 2, 8, 0, tzinfo=UTC)
URL = "https://roster.example.org/ims/oneroster/v1p1/users"


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.moment = MORNING

    def __call__(self) -> datetime:
        return self.moment

    def later(self, **parts: float) -> None:
        self.moment += timedelta(**parts)

    def seconds(self, offset: int = 0) -> str:
        return str(int(self.moment.timestamp()) + offset)


class Signer:
    """A client as oauthlib has it, whose clock is ours."""

    def __init__(self, key: str, secret: str, clock: Clock) -> None:
        self.key, self.secret, self.clock = key, secret, clock

    def header(self, url: str = URL, method: str = "GET", **options: Any) -> str:
        options.setdefault("timestamp", self.clock.seconds())
        client = Client(self.key, self.secret, **options)
        _, headers, _ = client.sign(url, method)
        header: str = headers["Authorization"]
        return header.removeprefix("OAuth ")

    def request(self, url: str = URL, method: str = "GET", **options: Any) -> SignedRequest:
        return request(self.header(url, method, **options), url, method)


def request(authorization: str, url: str = URL, method: str = "GET") -> SignedRequest:
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    uri = f"{parts.scheme}://{parts.netloc}{parts.path}"
    return SignedRequest(method, uri, [(name.encode(), value.encode()) for name, value in pairs], authorization)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def store(storage: str) -> Iterator[Backend]:
    with open_store(storage, COLLECTIONS) as opened:
        yield opened


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def clients(store: Backend, folder: Path, clock: Clock) -> ClientStore:
    return ClientStore(store, clock, SecretCipher(folder))


@pytest.fixture
def record(clients: ClientStore) -> OAuthClient:
    return clients.create("a signer", DEFAULT, oauth1=True)[1]


@pytest.fixture
def signer(record: OAuthClient, folder: Path, clock: Clock) -> Signer:
    return Signer(record.id, SecretCipher(folder).decrypt(record.secrets[0].sealed or ""), clock)


@pytest.fixture
def door(store: Backend, folder: Path, clock: Clock) -> OAuth1Verifier:
    return OAuth1Verifier(store, SecretCipher(folder), clock)


def admitted(door: OAuth1Verifier, asked: SignedRequest) -> bool:
    return door.authenticate(asked)[0] is not None


@pytest.mark.parametrize("method", [SIGNATURE_HMAC, SIGNATURE_HMAC_SHA256])
def test_a_signature_grants_the_clients_scopes_in_its_tenant_within_its_limits(
    clients: ClientStore, store: Backend, door: OAuth1Verifier, clock: Clock, method: str
) -> None:
    with store.write(CONTROL) as transaction:
        transaction.put(TENANTS, [Tenant(name="north", demographics=True).to_record()])
    limits = AccessRestrictions(orgs=frozenset({"org-1"}))
    secret, record = clients.create("a signer", DEFAULT, "north", limits=limits, oauth1=True)
    grant, stamp = door.authenticate(Signer(record.id, secret or "", clock).request(signature_method=method))
    assert grant == Principal("north", DEFAULT, record.id, limits, "client")
    assert stamp == store.version(CONTROL)


def test_without_the_tenants_opt_in_demographics_are_denied(
    clients: ClientStore, store: Backend, door: OAuth1Verifier, clock: Clock
) -> None:
    with store.write(CONTROL) as transaction:
        transaction.put(TENANTS, [Tenant(name="north").to_record()])
    secret, record = clients.create("a signer", DEFAULT, "north", oauth1=True)
    grant, _ = door.authenticate(Signer(record.id, secret or "", clock).request())
    assert grant is not None
    assert grant.restrictions.denied == {"demographics"}


def test_the_example_of_rfc_5849_has_the_base_string_that_the_rfc_prints(door: OAuth1Verifier) -> None:
    header = (
        'realm="Example", oauth_consumer_key="9djdj82h48djs9d2", oauth_token="kkk9d7dh3k39sjv7",'
        ' oauth_signature_method="HMAC-SHA1", oauth_timestamp="137131201", oauth_nonce="7d8f3e4a",'
        ' oauth_signature="bYT5CMsGcbgUdFHObYMEfcx6bsw%3D"'
    )
    pairs = [(b"b5", b"=%3D"), (b"a3", b"a"), (b"c@", b""), (b"a2", b"r b"), (b"c2", b""), (b"a3", b"2 q")]
    asked = SignedRequest("POST", "http://EXAMPLE.com:80/request", pairs, header)
    assert verifier._read(asked).base_string(asked) == (
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
def test_names_and_values_of_the_query_are_signed_however_they_are_encoded(
    door: OAuth1Verifier, signer: Signer, query: str
) -> None:
    assert admitted(door, signer.request(f"{URL}?{query}"))
    assert not admitted(door, request(signer.header(f"{URL}?{query}"), f"{URL}?{query}x"))


def test_a_realm_in_the_header_is_not_signed(door: OAuth1Verifier, signer: Signer) -> None:
    assert admitted(door, signer.request(realm="anything"))
    assert admitted(door, request('realm="Photos", ' + signer.header()))


def test_the_version_may_be_missing(door: OAuth1Verifier, signer: Signer) -> None:
    class Older(Client):  # type: ignore[misc]  # the library ships no types
        def get_oauth_params(self, request: Any) -> Any:
            return [pair for pair in super().get_oauth_params(request) if pair[0] != "oauth_version"]

    client = Older(signer.key, signer.secret, timestamp=signer.clock.seconds())
    header = client.sign(URL)[1]["Authorization"].removeprefix("OAuth ")
    assert "oauth_version" not in header
    assert admitted(door, request(header))


def test_an_empty_token_is_no_token_and_another_is_of_nobody(door: OAuth1Verifier, signer: Signer) -> None:
    class Empty(Client):  # type: ignore[misc]  # the library ships no types
        def get_oauth_params(self, request: Any) -> Any:
            return [*super().get_oauth_params(request), ("oauth_token", "")]

    client = Empty(signer.key, signer.secret, timestamp=signer.clock.seconds())
    assert admitted(door, request(client.sign(URL)[1]["Authorization"].removeprefix("OAuth ")))
    assert not admitted(door, signer.request(resource_owner_key="a-token"))


def test_a_nonce_of_any_characters_is_signed_as_it_is(door: OAuth1Verifier, signer: Signer) -> None:
    # oauthlib decodes what begins with oauth_ once more than RFC 5849 does: so a nonce without a percent sign.
    assert admitted(door, signer.request(nonce="a b+c/ö=&\"',"))


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
def test_host_and_port_are_signed_in_their_normal_form(
    door: OAuth1Verifier, signer: Signer, uri: str, signed: str
) -> None:
    assert admitted(door, request(signer.header(signed), uri))


@pytest.mark.parametrize(
    "changed",
    [
        {"url": URL + "/"},
        {"url": URL.replace("users", "orgs")},
        {"url": URL.replace("https", "http")},
        {"url": URL.replace("roster.", "other.")},
        {"url": URL + "?limit=1"},
        {"method": "DELETE"},
    ],
)
def test_what_was_not_signed_is_refused(door: OAuth1Verifier, signer: Signer, changed: dict[str, str]) -> None:
    assert not admitted(door, request(signer.header(), **changed))


def test_a_wrong_secret_and_an_unknown_key_are_refused(door: OAuth1Verifier, signer: Signer, clock: Clock) -> None:
    assert not admitted(door, Signer(signer.key, signer.secret + "0", clock).request())
    for key in ("nobody", "chk_client_" + "0" * 16, " ", "ö", "\0", "a" * 5000):
        assert not admitted(door, Signer(key, signer.secret, clock).request())


def test_a_client_that_may_not_sign_is_refused(clients: ClientStore, door: OAuth1Verifier, clock: Clock) -> None:
    secret, record = clients.create("no signer", DEFAULT)
    assert not admitted(door, Signer(record.id, secret or "", clock).request())


def test_a_request_is_let_in_once_whichever_method_signed_it(door: OAuth1Verifier, signer: Signer) -> None:
    asked = signer.request(nonce="once")
    assert admitted(door, asked)
    assert not admitted(door, asked)
    assert not admitted(door, signer.request(nonce="once", signature_method=SIGNATURE_HMAC_SHA256))
    assert admitted(door, signer.request(nonce="twice"))
    assert admitted(door, signer.request(nonce="once", timestamp=signer.clock.seconds(1)))


def test_a_wrong_signature_uses_up_no_nonce(door: OAuth1Verifier, signer: Signer, clock: Clock) -> None:
    assert not admitted(door, Signer(signer.key, "wrong", clock).request(nonce="mine"))
    assert admitted(door, signer.request(nonce="mine"))


def test_of_many_threads_with_the_same_request_one_is_let_in(door: OAuth1Verifier, signer: Signer) -> None:
    asked, barrier, let_in = signer.request(), threading.Barrier(8), list[bool]()

    def ask() -> None:
        barrier.wait(10)
        let_in.append(admitted(door, asked))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(let_in) == [False] * 7 + [True]


@pytest.mark.parametrize(
    ("offset", "right"),
    [
        (-MAX_AGE_SECONDS, True),
        (-MAX_AGE_SECONDS - 1, False),
        (MAX_AHEAD_SECONDS, True),
        (MAX_AHEAD_SECONDS + 1, False),
        (0, True),
    ],
)
def test_a_timestamp_may_be_ten_minutes_old_and_five_ahead(
    door: OAuth1Verifier, signer: Signer, offset: int, right: bool
) -> None:
    assert (MAX_AGE_SECONDS, MAX_AHEAD_SECONDS) == (600, 300)
    assert admitted(door, signer.request(timestamp=signer.clock.seconds(offset))) is right


def test_a_nonce_is_remembered_as_long_as_its_timestamp_is_valid(
    door: OAuth1Verifier, signer: Signer, clock: Clock
) -> None:
    asked = signer.request(timestamp=clock.seconds(MAX_AHEAD_SECONDS))
    assert admitted(door, asked)
    for _ in range(15):
        clock.later(seconds=61)
        assert not admitted(door, asked)


GOOD = {
    "oauth_consumer_key": "key",
    "oauth_signature_method": "HMAC-SHA1",
    "oauth_signature": "c2lnbmF0dXJl",
    "oauth_timestamp": "1935734400",
    "oauth_nonce": "nonce",
}


def written(parameters: dict[str, str]) -> str:
    return ", ".join(f'{name}="{quote(value, safe="")}"' for name, value in parameters.items())


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("empty", [True, False])
def test_a_missing_parameter_is_named(door: OAuth1Verifier, name: str, empty: bool) -> None:
    parameters = GOOD | {name: ""} if empty else {each: GOOD[each] for each in GOOD if each != name}
    with pytest.raises(MalformedRequestError, match=f"without {name}"):
        door.authenticate(request(written(parameters)))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"oauth_signature_method": "PLAINTEXT"}, "HMAC-SHA256 or HMAC-SHA1"),
        ({"oauth_signature_method": "RSA-SHA1"}, "HMAC-SHA256 or HMAC-SHA1"),
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
def test_what_cannot_be_understood_is_malformed(door: OAuth1Verifier, changed: dict[str, str], said: str) -> None:
    with pytest.raises(MalformedRequestError, match=said):
        door.authenticate(request(written(GOOD | changed)))


@pytest.mark.parametrize(
    "header",
    ["", ",,", "token", '"', "=", 'oauth_nonce="open', written(GOOD) + ", x", 'oauth_nonce="%FF", ' + written(GOOD)],
)
def test_a_header_that_is_no_list_of_parameters_is_malformed(door: OAuth1Verifier, header: str) -> None:
    with pytest.raises(MalformedRequestError):
        door.authenticate(request(header))


@pytest.mark.parametrize("name", [*GOOD, "realm"])
def test_a_parameter_that_stands_twice_is_malformed(door: OAuth1Verifier, name: str) -> None:
    value = (GOOD | {"realm": ""})[name]
    with pytest.raises(MalformedRequestError, match="more than once"):
        door.authenticate(request(f'{name}="{value}", ' + written({"realm": ""} | GOOD)))


def test_oauth_parameters_stand_in_the_header_alone(door: OAuth1Verifier, signer: Signer) -> None:
    with pytest.raises(MalformedRequestError, match="header alone"):
        door.authenticate(request(signer.header(), URL + "?oauth_nonce=another"))


def test_no_message_repeats_what_may_be_a_secret(door: OAuth1Verifier) -> None:
    for changed in ({"oauth_signature_method": "canary-1"}, {"oauth_version": "canary-2"}, {"oauth_nonce": ""}):
        with pytest.raises(MalformedRequestError) as refused:
            door.authenticate(request(written(GOOD | {"oauth_signature": "canary-3"} | changed)))
        assert "canary" not in str(refused.value)


def test_a_revoked_client_and_a_client_of_a_deleted_tenant_are_refused_at_once(
    clients: ClientStore, store: Backend, door: OAuth1Verifier, clock: Clock
) -> None:
    with store.write(CONTROL) as transaction:
        transaction.put(TENANTS, [Tenant(name="north").to_record()])
    signers = []
    for tenant in ("default", "north"):
        secret, record = clients.create("a signer", DEFAULT, tenant, oauth1=True)
        signers.append(Signer(record.id, secret or "", clock))
    assert all(admitted(door, each.request()) for each in signers)
    clients.revoke(signers[0].key)
    with store.write(CONTROL) as transaction:
        transaction.delete(TENANTS, ["north"])
    assert not any(admitted(door, each.request()) for each in signers)


def test_after_a_rotation_both_secrets_sign_until_the_former_ends(
    clients: ClientStore, door: OAuth1Verifier, signer: Signer, clock: Clock
) -> None:
    new, _ = clients.rotate(signer.key, timedelta(hours=1))
    newer = Signer(signer.key, new, clock)
    assert admitted(door, signer.request())
    assert admitted(door, newer.request())
    clock.later(hours=1)
    assert not admitted(door, signer.request())
    assert admitted(door, newer.request())


def test_a_key_that_is_not_there_refuses_with_one_line_in_the_log_until_it_is_back(
    store: Backend, folder: Path, signer: Signer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    door, right = OAuth1Verifier(store, SecretCipher(folder), clock), (folder / KEY_FILE_NAME).read_bytes()
    (folder / KEY_FILE_NAME).unlink()
    with caplog.at_level(logging.DEBUG):
        assert not any(admitted(door, signer.request()) for _ in range(3))
    [line] = [each.getMessage() for each in caplog.records if each.name.startswith("chalk_flask")]
    assert line.startswith(f"client {signer.key} cannot sign in with OAuth 1.0a")
    assert signer.secret not in line
    (folder / KEY_FILE_NAME).write_bytes(right)
    assert admitted(door, signer.request())


def test_a_wrong_key_refuses_too(
    store: Backend, folder: Path, signer: Signer, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    SecretCipher(tmp_path / "other").encrypt("x")
    assert not admitted(OAuth1Verifier(store, SecretCipher(tmp_path / "other"), clock), signer.request())
    assert "another key" in caplog.text
    assert admitted(OAuth1Verifier(store, SecretCipher(folder), clock), signer.request())


def test_an_unknown_key_is_refused_no_sooner_and_no_later_than_a_wrong_signature(
    door: OAuth1Verifier, signer: Signer, clock: Clock
) -> None:
    assert admitted(door, signer.request())
    spent: dict[str, list[float]] = {signer.key: [], "chk_client_" + "0" * 16: []}
    for _ in range(150):
        for key, times in spent.items():
            asked = Signer(key, "wrong", clock).request()
            start = time.perf_counter()
            assert not admitted(door, asked)
            times.append(time.perf_counter() - start)
    known, unknown = map(median, spent.values())
    assert 0.5 < known / unknown < 2


def test_a_client_that_signs_more_than_is_remembered_is_never_let_in_twice() -> None:
    nonces, now = NonceCache(most=100), 1_000_000
    assert all(nonces.check_and_remember("a", now - 50 + second, str(second), now) for second in range(50))
    assert all(nonces.check_and_remember("a", now, str(number), now) for number in range(51))
    assert not nonces.check_and_remember("a", now - 50, "0", now)
    assert not nonces.check_and_remember("a", now - 50, "another of a forgotten second", now)
    assert nonces.check_and_remember("a", now - 49, "another of the next", now)
    assert nonces.check_and_remember("b", now - 50, "0", now)


def test_nonces_that_are_no_longer_valid_take_no_room() -> None:
    nonces, now = NonceCache(), 1_000_000
    assert all(nonces.check_and_remember(f"client {number}", now, "nonce", now) for number in range(50))
    assert nonces.check_and_remember("a", now + MAX_AGE_SECONDS + 100, "nonce", now + MAX_AGE_SECONDS + 100)
    assert list(nonces._clients) == ["a"]
