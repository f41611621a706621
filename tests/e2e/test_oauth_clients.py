"""OAuth 2 client credentials as consumers use them: client libraries of others, over sockets, from a real server."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.requests_client import OAuth2Session as AuthlibSession
from authlib.oauth2.rfc7523 import PrivateKeyJWT, private_key_jwt_sign
from joserfc.jwk import ECKey, RSAKey
from oauthlib.oauth2 import BackendApplicationClient, InvalidClientError, InvalidScopeError
from requests.auth import HTTPBasicAuth
from requests_oauthlib import OAuth2Session

from chalk_flask.permissions.scopes import DEMOGRAPHICS, GRADEBOOK, ROSTER
from tests.e2e.conftest import DEMO, RunningService, run_command, serve
from tests.support.keys import ec_key, rsa_key

IMS = "/ims/oneroster/v1p1"
TOKEN_PATHS = ("/oauth/token", f"{IMS}/token", "/api/oneroster/v1p1/token", "/ims/oneroster/token")


@dataclass(frozen=True)
class District:
    """A district that is served, and its folder."""

    folder: Path
    served: RunningService

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.served.port}{path}"

    def client(self, *words: str | Path) -> dict[str, Any]:
        """A new client, as the command line shows it."""
        made = json.loads(run_command(self.folder, "client", "create", "--label", "e2e", "--json", *words))
        assert isinstance(made, dict)
        return made


@pytest.fixture(scope="module")
def district(tmp_path_factory: pytest.TempPathFactory) -> Iterator[District]:
    folder = tmp_path_factory.mktemp("clients")
    run_command(folder, "import", DEMO)
    with serve(folder, "none") as served:
        yield District(folder, served)


@pytest.fixture(scope="module")
def pair(district: District) -> dict[str, Any]:
    """A client with a secret, which stays."""
    return district.client()


@pytest.fixture(autouse=True)
def _http_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")  # TLS is for the proxy in front
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.mark.parametrize("path", TOKEN_PATHS)
@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_authlib_gets_a_token_and_reads(district: District, pair: dict[str, Any], method: str, path: str) -> None:
    with AuthlibSession(pair["client_id"], pair["client_secret"], token_endpoint_auth_method=method) as session:
        token = session.fetch_token(district.url(path), grant_type="client_credentials", scope=f"{ROSTER} {GRADEBOOK}")
        assert (token["token_type"], token["expires_in"]) == ("bearer", 3600)
        assert token["scope"] == f"{ROSTER} {GRADEBOOK}"
        answer = session.get(district.url(f"{IMS}/users?limit=3"))
        assert len(answer.json()["users"]) == 3
        assert session.get(district.url(f"{IMS}/demographics")).status_code == 403


def test_authlib_is_refused_with_a_wrong_secret(district: District, pair: dict[str, Any]) -> None:
    with (
        AuthlibSession(pair["client_id"], pair["client_secret"] + "0") as session,
        pytest.raises(OAuthError, match="invalid_client"),
    ):
        session.fetch_token(district.url("/oauth/token"), grant_type="client_credentials")


@pytest.mark.parametrize("in_form", [False, True])
def test_requests_oauthlib_gets_a_token_and_reads(district: District, pair: dict[str, Any], in_form: bool) -> None:
    client_id, secret = pair["client_id"], pair["client_secret"]
    with OAuth2Session(client=BackendApplicationClient(client_id)) as session:
        how: dict[str, Any] = (
            {"client_secret": secret, "include_client_id": True}
            if in_form
            else {"auth": HTTPBasicAuth(client_id, secret)}
        )
        token = session.fetch_token(district.url("/oauth/token"), **how)
        assert " ".join(token["scope"]) == " ".join(pair["scopes"])
        assert session.get(district.url(f"{IMS}/orgs")).json()["orgs"]


def test_requests_oauthlib_is_refused_with_a_wrong_secret_and_a_wrong_scope(
    district: District, pair: dict[str, Any]
) -> None:
    client_id, secret = pair["client_id"], pair["client_secret"]
    url = district.url("/oauth/token")
    with OAuth2Session(client=BackendApplicationClient(client_id)) as session:
        with pytest.raises(InvalidClientError):
            session.fetch_token(url, auth=HTTPBasicAuth(client_id, "wrong"))
        with pytest.raises(InvalidClientError):
            session.fetch_token(url, auth=HTTPBasicAuth("chk_client_0123456789abcdef", secret))
    with (
        OAuth2Session(client=BackendApplicationClient(client_id, scope=[DEMOGRAPHICS])) as session,
        pytest.raises(InvalidScopeError),
    ):
        session.fetch_token(url, auth=HTTPBasicAuth(client_id, secret))


def keyed(district: District, key: RSAKey | ECKey) -> str:
    """The id of a new client that signs in with a key."""
    (district.folder / "key.pem").write_bytes(key.as_pem(private=False))
    made = district.client("--public-key", "key.pem")
    assert made["client_secret"] is None
    return str(made["client_id"])


def test_authlib_signs_in_with_a_key_and_not_with_another(district: District) -> None:
    client_id, url = keyed(district, rsa_key("a")), district.url("/oauth/token")
    right, wrong = (rsa_key(name).as_pem(private=True).decode() for name in "ab")
    with AuthlibSession(client_id, right, token_endpoint_auth_method="private_key_jwt") as session:
        session.register_client_auth_method(PrivateKeyJWT(url))
        session.fetch_token(url, grant_type="client_credentials")
        assert session.get(district.url(f"{IMS}/orgs")).json()["orgs"]
    with AuthlibSession(client_id, wrong, token_endpoint_auth_method="private_key_jwt") as session:
        session.register_client_auth_method(PrivateKeyJWT(url))
        with pytest.raises(OAuthError, match="invalid_client"):
            session.fetch_token(url, grant_type="client_credentials")


def test_an_assertion_that_authlib_signs_with_es256_is_good_once(district: District) -> None:
    client_id, url = keyed(district, ec_key("a")), district.url("/oauth/token")
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": private_key_jwt_sign(ec_key("a"), client_id, url, alg="ES256"),
    }
    answers = [requests.post(url, data=form, timeout=30) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 401]
    assert answers[1].json()["error"] == "invalid_client"


def test_three_hundred_requests_at_once_get_three_hundred_tokens(district: District, pair: dict[str, Any]) -> None:
    def ask(number: int) -> str:
        answer = requests.post(
            district.url("/oauth/token"),
            data={"grant_type": "client_credentials"},
            auth=(pair["client_id"], pair["client_secret"]),
            timeout=60,
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    with ThreadPoolExecutor(50) as pool:
        tokens = list(pool.map(ask, range(300)))
    assert len(set(tokens)) == 300
    for token in (tokens[0], tokens[150], tokens[299]):
        assert district.served.request(f"{IMS}/orgs", Authorization=f"Bearer {token}").status == 200


def test_a_revoked_client_and_its_tokens_end_within_a_second(district: District) -> None:
    made = district.client()
    with AuthlibSession(made["client_id"], made["client_secret"]) as session:
        url = district.url("/oauth/token")
        session.fetch_token(url, grant_type="client_credentials")
        assert session.get(district.url(f"{IMS}/orgs")).status_code == 200
        run_command(district.folder, "client", "revoke", made["client_id"])
        deadline = time.monotonic() + 1
        while session.get(district.url(f"{IMS}/orgs")).status_code == 200:
            assert time.monotonic() < deadline
        assert session.get(district.url(f"{IMS}/orgs")).status_code == 401
        with pytest.raises(OAuthError, match="invalid_client"):
            session.fetch_token(url, grant_type="client_credentials")


def test_a_header_that_is_sent_twice_lets_nobody_in(district: District, pair: dict[str, Any]) -> None:
    credentials = base64.b64encode(f"{pair['client_id']}:{pair['client_secret']}".encode()).decode()
    header = f"Authorization: Basic {credentials}"
    body = b"grant_type=client_credentials"
    lines = [
        "POST /oauth/token HTTP/1.1", "Host: x", header, header,
        "Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}", "Connection: close",
    ]  # fmt: skip
    with socket.create_connection(("127.0.0.1", district.served.port), timeout=30) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, content = answer.partition(b"\r\n\r\n")
    assert head.split()[1] in (b"400", b"401")
    assert b"access_token" not in content
    assert json.loads(content)["error"]


def test_neither_secrets_nor_tokens_nor_the_key_stand_in_the_store(district: District, pair: dict[str, Any]) -> None:
    with AuthlibSession(pair["client_id"], pair["client_secret"]) as session:
        token = session.fetch_token(district.url("/oauth/token"), grant_type="client_credentials")["access_token"]
    key = (district.folder / "chalk-data" / "access-tokens.key").read_text().strip()
    files = {each: each.read_bytes() for each in district.folder.rglob("*") if each.is_file()}
    assert any(pair["client_id"].encode() in content for content in files.values())
    for path, content in files.items():
        assert pair["client_secret"].encode() not in content, path
        assert token.encode() not in content, path
        assert key.encode() not in content or path.name == "access-tokens.key"
        assert bytes.fromhex(key) not in content, path
