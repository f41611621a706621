"""Access tokens are signed and not stored, and end when they expire or with their client."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from backends import Backend, open_store
from chalk_flask.auth.clients.access_tokens import ISSUER, AccessTokenIssuer
from chalk_flask.auth.clients.store import ClientStore
from chalk_flask.auth.secrets.key_file import KeyFile, KeyFileError
from chalk_flask.permissions.restrictions import AccessRestrictions
from chalk_flask.permissions.scopes import DEFAULT, DEMOGRAPHICS, GRADEBOOK, ROSTER, ROSTER_CORE
from chalk_flask.storage import COLLECTIONS
from chalk_flask.tenants.store import TenantStore
from tests.conftest import url_in
from tests.support.keys import ec_key, signed
from tests.support.paths import ROOT

MORNING = datetime(2031, 5, 2, 8, 0, tzinfo=UTC)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.moment = MORNING

    def __call__(self) -> datetime:
        return self.moment


@pytest.fixture
def store(backend: str, tmp_path: Path) -> Iterator[Backend]:
    with open_store(url_in(tmp_path, backend), COLLECTIONS) as opened:
        yield opened


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def clients(store: Backend, clock: Clock) -> ClientStore:
    return ClientStore(store, clock)


@pytest.fixture
def key_file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "data" / "key")


@pytest.fixture
def tokens(clients: ClientStore, key_file: KeyFile, clock: Clock) -> AccessTokenIssuer:
    return AccessTokenIssuer(clients, key_file, 3600, clock)


def client_id(clients: ClientStore, tenant: str = "default", limits: AccessRestrictions | None = None) -> str:
    return clients.create("a platform", DEFAULT, tenant, limits=limits or AccessRestrictions())[1].id


def part(claims: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()


def test_a_token_opens_what_its_client_was_given(tokens: AccessTokenIssuer, clients: ClientStore) -> None:
    limits = AccessRestrictions(orgs=frozenset({"o-1"}))
    client = client_id(clients, limits=limits)
    token = tokens.issue(client, "default", frozenset({ROSTER}))
    assert tokens.can_verify(token)
    for _ in range(2):
        grant, _ = tokens.authenticate(token)
        assert grant is not None
        assert (grant.tenant, grant.credential_id, grant.credential_type) == ("default", client, "client")
        assert (grant.scopes, grant.restrictions) == (frozenset({ROSTER}), limits)


def test_every_token_is_another_one_and_all_are_valid(tokens: AccessTokenIssuer, clients: ClientStore) -> None:
    client = client_id(clients)
    issued = {tokens.issue(client, "default", DEFAULT) for _ in range(300)}
    assert len(issued) == 300
    assert all(tokens.authenticate(token)[0] for token in issued)


def test_a_token_opens_no_more_than_its_client_may_now(tokens: AccessTokenIssuer, clients: ClientStore) -> None:
    client = client_id(clients)
    grant, _ = tokens.authenticate(tokens.issue(client, "default", frozenset({ROSTER_CORE, DEMOGRAPHICS, GRADEBOOK})))
    assert grant is not None
    assert grant.scopes == {ROSTER_CORE, GRADEBOOK}


def test_a_token_ends_when_it_expires_also_when_it_was_seen_before(
    tokens: AccessTokenIssuer, clients: ClientStore, clock: Clock
) -> None:
    token = tokens.issue(client_id(clients), "default", DEFAULT)
    clock.moment += timedelta(seconds=3599)
    assert tokens.authenticate(token)[0]
    clock.moment += timedelta(seconds=1)
    assert tokens.authenticate(token)[0] is None
    unseen = AccessTokenIssuer(clients, tokens._key_file, 3600, clock)
    assert unseen.authenticate(token)[0] is None


def test_a_token_ends_with_its_client_in_every_process(store: Backend, key_file: KeyFile) -> None:
    here, there = (AccessTokenIssuer(ClientStore(store), key_file) for _ in range(2))
    clients = ClientStore(store)
    client = client_id(clients)
    token = here.issue(client, "default", DEFAULT)
    assert here.authenticate(token)[0]
    assert there.authenticate(token)[0]
    clients.revoke(client)
    assert here.authenticate(token)[0] is None
    assert there.authenticate(token)[0] is None


def test_a_token_ends_with_its_tenant(store: Backend, tokens: AccessTokenIssuer, clients: ClientStore) -> None:
    TenantStore(store).create("north")
    token = tokens.issue(client_id(clients, "north"), "north", DEFAULT)
    assert tokens.authenticate(token)[0]
    TenantStore(store).delete("north")
    assert tokens.authenticate(token)[0] is None


def test_a_token_of_another_tenant_than_its_client_opens_nothing(
    store: Backend, tokens: AccessTokenIssuer, clients: ClientStore
) -> None:
    TenantStore(store).create("north")
    assert tokens.authenticate(tokens.issue(client_id(clients), "north", DEFAULT))[0] is None


def test_a_tenant_without_the_opt_in_denies_demographics(
    store: Backend, tokens: AccessTokenIssuer, clients: ClientStore
) -> None:
    TenantStore(store).create("north")
    grant, _ = tokens.authenticate(tokens.issue(client_id(clients, "north"), "north", DEFAULT))
    assert grant is not None
    assert "demographics" in grant.restrictions.denied


Forge = Callable[[dict[str, Any], bytes], str]

FORGED: dict[str, Forge] = {
    "the signature of another key": lambda c, k: jwt.encode({"alg": "HS256"}, c, OctKey.import_key(bytes(32))),
    "no signature": lambda c, k: f"{part({'alg': 'none'})}.{part(c)}.",
    "a signature cut short": lambda c, k: jwt.encode({"alg": "HS256"}, c, OctKey.import_key(k))[:-4],
    "another algorithm with our key": lambda c, k: jwt.encode({"alg": "HS512"}, c, OctKey.import_key(k), ["HS512"]),
    "a key of its own in the header": lambda c, k: signed(ec_key("own"), {"jwk": ec_key("own").as_dict()}, **c),
    "a signature with a public key": lambda c, k: signed(ec_key("own"), **c),
    "no expiry": lambda c, k: ours({**c, "exp": None}, k),
    "an expiry that is text": lambda c, k: ours({**c, "exp": "tomorrow"}, k),
    "an expiry that is no number": lambda c, k: ours({**c, "exp": float("nan")}, k),
    "scopes that are a number": lambda c, k: ours({**c, "scopes": 1}, k),
    "scopes that are lists": lambda c, k: ours({**c, "scopes": [[]]}, k),
    "a client that is a list": lambda c, k: ours({**c, "client": ["x"]}, k),
    "a client that is nobody": lambda c, k: ours({**c, "client": "nobody"}, k),
    "claims that are a list": lambda c, k: f"{part({'alg': 'HS256'})}.{part([c])}.x",
    "claims nested deeply": lambda c, k: f"{part({'alg': 'HS256'})}.{part('[' * 2000)}.x",
}


def ours(claims: dict[str, Any], key: bytes) -> str:
    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(key))


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_what_we_did_not_sign_so_opens_nothing(
    tokens: AccessTokenIssuer, clients: ClientStore, key_file: KeyFile, clock: Clock, forge: Forge
) -> None:
    moment = int(clock().timestamp())
    whole = {"iss": ISSUER, "tenant": "default", "client": client_id(clients), "scopes": [ROSTER], "exp": moment + 60}
    assert tokens.authenticate(ours(whole, key_file.key()))[0], "it is only what was changed that is wrong"
    token = forge(whole, key_file.key())
    assert tokens.authenticate(token)[0] is None


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "a.b.c", "chk_live_x", f"x.{part({'iss': 'https://tool.example.org'})}.x", f"x.{part('x')}.x",
     f"x.{part({'iss': ISSUER})}", f"x.{part({'iss': ISSUER})}.x.x", "é.é.é", "x." + "é" * 9 + ".x", "." * 100_000,
     f"x.{part({'iss': ISSUER, 'pad': 'x' * 9000})}.x"],
)  # fmt: skip
def test_what_is_not_ours_is_not_recognised(tokens: AccessTokenIssuer, text: str) -> None:
    assert not tokens.can_verify(text)
    assert tokens.authenticate(text)[0] is None


def test_nothing_is_stored_for_a_token(store: Backend, tokens: AccessTokenIssuer, clients: ClientStore) -> None:
    client = client_id(clients)
    before = store.version("_control")
    token = tokens.issue(client, "default", DEFAULT)
    assert tokens.authenticate(token)[0]
    assert store.version("_control") == before
    assert token not in repr(vars(tokens))


def test_what_is_remembered_of_tokens_is_bounded(tokens: AccessTokenIssuer, clients: ClientStore) -> None:
    client = client_id(clients)
    for _ in range(4200):
        tokens.authenticate(tokens.issue(client, "default", frozenset({ROSTER})))
    assert len(tokens._known) <= 4096


def test_admitting_a_known_token_takes_microseconds(tokens: AccessTokenIssuer, clients: ClientStore) -> None:
    token = tokens.issue(client_id(clients), "default", DEFAULT)

    def timed() -> float:
        start = time.process_time()
        for _ in range(100):
            assert tokens.can_verify(token)
            tokens.authenticate(token)
        return (time.process_time() - start) / 100

    timed()
    assert min(timed() for _ in range(20)) < 60e-6, "20 us is what it takes on a machine with nothing else to do"


def test_the_key_is_for_its_owner_alone_and_stays(key_file: KeyFile, tmp_path: Path) -> None:
    assert key_file.existing() is None
    key = key_file.key()
    path = tmp_path / "data" / "key"
    assert len(key) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["key"], "nothing else is left"
    assert KeyFile(path).key() == key_file.existing() == key


def test_processes_that_start_at_once_agree_on_the_key(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from chalk_flask.auth.secrets.key_file import KeyFile;"
        "sys.stdin.readline(); print(KeyFile(Path(sys.argv[1])).key().hex())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "data" / "key")]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environ}
    started = [subprocess.Popen(command, **pipes) for _ in range(3)]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert len({process.communicate(timeout=60)[0] for process in started}) == 1


def test_tokens_end_when_the_key_is_removed_or_replaced_also_when_they_were_seen_before(
    clients: ClientStore, tmp_path: Path
) -> None:
    path = tmp_path / "data" / "key"
    client = client_id(clients)
    issuer, reader = (AccessTokenIssuer(clients, KeyFile(path)) for _ in range(2))
    token = issuer.issue(client, "default", DEFAULT)
    assert reader.authenticate(token)[0]
    path.unlink()
    assert reader.authenticate(token)[0] is None
    newer = issuer.issue(client, "default", DEFAULT)
    assert reader.authenticate(token)[0] is None
    assert reader.authenticate(newer)[0]


@pytest.mark.parametrize("content", [b"", b"abc", b"\xff\xfe", b"0" * 62, b"0" * 66, b"g" * 64])
def test_a_file_that_holds_no_key_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(KeyFileError, match=f"{path} holds no key of this service"):
        KeyFile(path).key()


def test_a_place_where_no_key_can_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KeyFileError, match=r"the key file .*file/key cannot be"):
        KeyFile(tmp_path / "file" / "key").key()
