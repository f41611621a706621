"""OAuth 2 client credentials: client libraries obtain tokens from a running server."""

from __future__ import annotations

import base64
import json
import socket
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
from tests.support.deliveries import wait_until
from tests.support.keys import ec_key, rsa_key

IMS = "/ims/oneroster/v1p1"
TOKEN_PATHS = ("/oauth/token", f"{IMS}/token", "/api/oneroster/v1p1/token", "/ims/oneroster/token")


pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class District:
    """Running server and the folder of its store."""

    folder: Path
    service: RunningService

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.service.port}{path}"

    def create_client(self, *args: str | Path) -> dict[str, Any]:
        """Return a new client as the command line shows it."""
        client = json.loads(run_command(self.folder, "client", "create", "--label", "e2e", "--json", *args))
        assert isinstance(client, dict)
        return client


@pytest.fixture(scope="module")
def district(tmp_path_factory: pytest.TempPathFactory) -> Iterator[District]:
    folder = tmp_path_factory.mktemp("clients")
    run_command(folder, "import", DEMO)
    with serve(folder, "none", is_public=True) as service:
        yield District(folder, service)


@pytest.fixture(scope="module")
def client(district: District) -> dict[str, Any]:
    """Client with a secret, for tests that do not change it."""
    return district.create_client()


@pytest.fixture(autouse=True)
def _allow_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")  # a proxy in front of the service terminates TLS
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.mark.parametrize("path", TOKEN_PATHS)
@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_authlib_obtains_a_token_and_reads(district: District, client: dict[str, Any], method: str, path: str) -> None:
    with AuthlibSession(client["client_id"], client["client_secret"], token_endpoint_auth_method=method) as session:
        token = session.fetch_token(district.url(path), grant_type="client_credentials", scope=f"{ROSTER} {GRADEBOOK}")
        assert (token["token_type"], token["expires_in"]) == ("bearer", 3600)
        assert token["scope"] == f"{ROSTER} {GRADEBOOK}"
        response = session.get(district.url(f"{IMS}/users?limit=3"))
        assert len(response.json()["users"]) == 3
        assert session.get(district.url(f"{IMS}/demographics")).status_code == 403


def test_authlib_reports_a_wrong_secret(district: District, client: dict[str, Any]) -> None:
    with (
        AuthlibSession(client["client_id"], client["client_secret"] + "0") as session,
        pytest.raises(OAuthError, match="invalid_client"),
    ):
        session.fetch_token(district.url("/oauth/token"), grant_type="client_credentials")


@pytest.mark.parametrize("in_form", [False, True])
def test_requests_oauthlib_obtains_a_token_and_reads(district: District, client: dict[str, Any], in_form: bool) -> None:
    client_id, secret = client["client_id"], client["client_secret"]
    with OAuth2Session(client=BackendApplicationClient(client_id)) as session:
        credentials: dict[str, Any] = (
            {"client_secret": secret, "include_client_id": True}
            if in_form
            else {"auth": HTTPBasicAuth(client_id, secret)}
        )
        token = session.fetch_token(district.url("/oauth/token"), **credentials)
        assert " ".join(token["scope"]) == " ".join(client["scopes"])
        assert session.get(district.url(f"{IMS}/orgs")).json()["orgs"]


def test_requests_oauthlib_reports_a_wrong_secret_and_scope(district: District, client: dict[str, Any]) -> None:
    client_id, secret = client["client_id"], client["client_secret"]
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


def create_client_with_key(district: District, key: RSAKey | ECKey) -> str:
    """Return the id of a new client that authenticates with a key."""
    (district.folder / "key.pem").write_bytes(key.as_pem(private=False))
    client = district.create_client("--public-key", "key.pem")
    assert client["client_secret"] is None
    return str(client["client_id"])


def test_authlib_authenticates_with_the_right_key_only(district: District) -> None:
    client_id, url = create_client_with_key(district, rsa_key("a")), district.url("/oauth/token")
    right, wrong = (rsa_key(name).as_pem(private=True).decode() for name in "ab")
    with AuthlibSession(client_id, right, token_endpoint_auth_method="private_key_jwt") as session:
        session.register_client_auth_method(PrivateKeyJWT(url))
        session.fetch_token(url, grant_type="client_credentials")
        assert session.get(district.url(f"{IMS}/orgs")).json()["orgs"]
    with AuthlibSession(client_id, wrong, token_endpoint_auth_method="private_key_jwt") as session:
        session.register_client_auth_method(PrivateKeyJWT(url))
        with pytest.raises(OAuthError, match="invalid_client"):
            session.fetch_token(url, grant_type="client_credentials")


def test_es256_assertion_of_authlib_is_accepted_once(district: District) -> None:
    client_id, url = create_client_with_key(district, ec_key("a")), district.url("/oauth/token")
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": private_key_jwt_sign(ec_key("a"), client_id, url, alg="ES256"),
    }
    responses = [requests.post(url, data=form, timeout=30) for _ in range(2)]
    assert [response.status_code for response in responses] == [200, 401]
    assert responses[1].json()["error"] == "invalid_client"


def test_concurrent_requests_get_different_tokens(district: District, client: dict[str, Any]) -> None:
    def request_token(number: int) -> str:
        response = requests.post(
            district.url("/oauth/token"),
            data={"grant_type": "client_credentials"},
            auth=(client["client_id"], client["client_secret"]),
            timeout=60,
        )
        assert response.status_code == 200, response.text
        return str(response.json()["access_token"])

    with ThreadPoolExecutor(25) as pool:
        tokens = list(pool.map(request_token, range(100)))
    assert len(set(tokens)) == 100
    for token in (tokens[0], tokens[50], tokens[99]):
        assert district.service.request(f"{IMS}/orgs", Authorization=f"Bearer {token}").status == 200


def test_revoked_client_and_its_tokens_end_soon(district: District) -> None:
    client = district.create_client()
    with AuthlibSession(client["client_id"], client["client_secret"]) as session:
        url = district.url("/oauth/token")
        session.fetch_token(url, grant_type="client_credentials")
        assert session.get(district.url(f"{IMS}/orgs")).status_code == 200
        run_command(district.folder, "client", "revoke", client["client_id"])
        wait_until(lambda: session.get(district.url(f"{IMS}/orgs")).status_code != 200)
        assert session.get(district.url(f"{IMS}/orgs")).status_code == 401
        with pytest.raises(OAuthError, match="invalid_client"):
            session.fetch_token(url, grant_type="client_credentials")


def test_repeated_authorization_header_is_rejected(district: District, client: dict[str, Any]) -> None:
    credentials = base64.b64encode(f"{client['client_id']}:{client['client_secret']}".encode()).decode()
    header = f"Authorization: Basic {credentials}"
    body = b"grant_type=client_credentials"
    lines = [
        "POST /oauth/token HTTP/1.1", "Host: x", header, header,
        "Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}", "Connection: close",
    ]  # fmt: skip
    with socket.create_connection(("127.0.0.1", district.service.port), timeout=30) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        response = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, content = response.partition(b"\r\n\r\n")
    assert head.split()[1] in (b"400", b"401")
    assert b"access_token" not in content
    assert json.loads(content)["error"]


def test_files_contain_no_secret_token_or_key(district: District, client: dict[str, Any]) -> None:
    with AuthlibSession(client["client_id"], client["client_secret"]) as session:
        token = session.fetch_token(district.url("/oauth/token"), grant_type="client_credentials")["access_token"]
    key = (district.folder / "chalk-data" / "access-tokens.key").read_text().strip()
    files = {each: each.read_bytes() for each in district.folder.rglob("*") if each.is_file()}
    assert any(client["client_id"].encode() in content for content in files.values())
    for path, content in files.items():
        assert client["client_secret"].encode() not in content, path
        assert token.encode() not in content, path
        assert key.encode() not in content or path.name == "access-tokens.key"
        assert bytes.fromhex(key) not in content, path
