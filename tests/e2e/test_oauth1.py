"""OAuth 1.0a over sockets: requests that the client libraries of consumers sign are accepted, others rejected."""

from __future__ import annotations

import http.client
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from authlib.integrations.requests_client import OAuth1Session as AuthlibSession
from oauthlib.oauth1 import Client
from requests_oauthlib import OAuth1Session

from tests.e2e.conftest import DEMO, Response, RunningService, run_command, serve

IMS, CHALK = "/ims/oneroster/v1p1", "/api/oneroster/v1p1"
USERS = f"{IMS}/users"
SHA_1, SHA_256 = "HMAC-SHA1", "HMAC-SHA256"
SPECIAL = "term/2 of a+b;ü=&%2F,(x)"
PROXY = "https://Roster.Example.org:443/district"

MakeSession = Callable[[str, str], requests.Session]

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class SigningClient:
    """Running server, and a client that can sign its requests."""

    service: RunningService
    key: str
    secret: str

    @property
    def site(self) -> str:
        return f"http://127.0.0.1:{self.service.port}"

    def header(self, path: str, method: str = "GET", site: str = "", **options: Any) -> str:
        """Return the Authorization header that oauthlib creates for a request."""
        secret = options.pop("client_secret", self.secret)
        _, headers, _ = Client(options.pop("key", self.key), secret, **options).sign((site or self.site) + path, method)
        header: str = headers["Authorization"]
        return header

    def request(self, path: str, method: str = "GET", sent_as: str = "", **options: Any) -> Response:
        """Sign a request for `path`, send it to `sent_as` (default: the same), and return the response."""
        return self.service.request(sent_as or path, method, Authorization=self.header(path, method, **options))


def requests_oauthlib(method: str) -> MakeSession:
    return lambda key, secret: OAuth1Session(key, client_secret=secret, signature_method=method)


def authlib(key: str, secret: str) -> requests.Session:
    session: requests.Session = AuthlibSession(key, client_secret=secret, signature_method=SHA_1)
    return session


LIBRARIES: dict[str, MakeSession] = {
    "requests-oauthlib, SHA-1": requests_oauthlib(SHA_1),
    "requests-oauthlib, SHA-256": requests_oauthlib(SHA_256),
    "Authlib, SHA-1": authlib,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the demo district and a term whose id requires percent-encoding, in SQLite."""
    folder = tmp_path_factory.mktemp("signed")
    shutil.copytree(DEMO, folder / "package")
    with (folder / "package" / "academicSessions.csv").open("a", encoding="utf-8") as sessions:
        sessions.write(f'"{SPECIAL}",,,Extra,term,2026-08-01,2027-01-31,,2027\r\n')
    run_command(folder, "import", "package")
    return folder


def create_client(folder: Path, *args: str) -> tuple[str, str]:
    client = json.loads(run_command(folder, "client", "create", "--label", "a signer", "--json", *args))
    return client["client_id"], client["client_secret"]


def create_token(folder: Path) -> str:
    token: str = json.loads(run_command(folder, "token", "create", "--label", "e2e", "--json"))["token"]
    return token


@pytest.fixture(scope="module")
def signing(folder: Path) -> Iterator[SigningClient]:
    key, secret = create_client(folder, "--oauth1")
    with serve(folder, create_token(folder), is_public=True) as service:
        yield SigningClient(service, key, secret)


@pytest.fixture(params=LIBRARIES)
def session(
    request: pytest.FixtureRequest, signing: SigningClient, monkeypatch: pytest.MonkeyPatch
) -> Iterator[requests.Session]:
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")  # otherwise its client rejects plain HTTP, even to 127.0.0.1
    with LIBRARIES[request.param](signing.key, signing.secret) as session:
        yield session


@pytest.mark.parametrize("root", [IMS, CHALK, f"{IMS}/sis", f"{CHALK}/sis"])
def test_signed_request_gets_the_response_of_a_token_under_every_root(
    signing: SigningClient, session: requests.Session, root: str
) -> None:
    response = session.get(f"{signing.site}{root}/users", params={"limit": "3", "sort": "familyName"})
    assert response.status_code == 200
    assert response.content == signing.service.request(f"{root}/users?limit=3&sort=familyName").body


@pytest.mark.parametrize(
    "query",
    [
        {"filter": "givenName='Mary Jane'"},
        {"filter": "familyName='O'Brien' AND role='student'"},
        {"filter": "familyName='Müller'", "fields": "sourcedId,familyName"},
        {"filter": "email!='a+b@example.org'", "limit": "2", "offset": "1"},
        {"filter": "familyName~'\"&=%20;:@$,/?#[]{}|\\^`<>*!()~-_.'"},
        [("x", "b"), ("x", "a"), ("x", ""), ("a", "1 2")],
    ],
)
def test_query_with_special_characters_is_signed_and_parsed(
    signing: SigningClient, session: requests.Session, query: Any
) -> None:
    response = session.get(signing.site + USERS, params=query)
    assert response.status_code == 200, response.text
    by_token = requests.get(
        signing.site + USERS, params=query, headers={"Authorization": f"Bearer {signing.service.token}"}, timeout=30
    )
    assert response.content == by_token.content
    assert response.headers["X-Total-Count"] == by_token.headers["X-Total-Count"]


@pytest.mark.reading("O-02")
@pytest.mark.parametrize("space", ["%20", "+"])
def test_space_is_signed_the_same_in_both_encodings(signing: SigningClient, space: str) -> None:
    path = f"{USERS}?filter=givenName%3D'Mary{space}Jane'"
    response = signing.request(path)
    assert (response.status, len(response.records)) == (200, 1)


def test_invalid_parameter_of_a_signed_request_is_reported(signing: SigningClient, session: requests.Session) -> None:
    response = session.get(signing.site + USERS, params=[("limit", "1"), ("limit", "2")])
    assert (response.status_code, response.json()["message"]) == (400, "The parameter limit is repeated. Send it once.")


def test_percent_encoded_id_is_signed_as_sent(signing: SigningClient, session: requests.Session) -> None:
    response = session.get(f"{signing.site}{IMS}/terms/{quote(SPECIAL, safe='')}")
    assert (response.status_code, response.json()["academicSession"]["sourcedId"]) == (200, SPECIAL)


def test_encoded_slash_is_not_a_slash_in_a_signature(signing: SigningClient) -> None:
    encoded = f"{IMS}/terms/{quote(SPECIAL, safe='')}"
    assert signing.request(encoded, sent_as=encoded.replace("%2F", "%2f", 1)).status == 401
    assert signing.request(encoded, sent_as=encoded.replace("%2F", "/", 1)).status in (401, 404)


def test_head_request_is_signed_as_head(signing: SigningClient, session: requests.Session) -> None:
    response = session.head(signing.site + USERS)
    assert (response.status_code, response.content) == (200, b"")
    assert int(response.headers["X-Total-Count"]) > 0
    assert signing.service.request(USERS, "HEAD", Authorization=signing.header(USERS)).status == 401


@pytest.mark.reading("O-02")
def test_form_is_signed_and_json_body_is_not(signing: SigningClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")
    url = signing.site + USERS
    # oauthlib signs no form of a GET.
    with authlib(signing.key, signing.secret) as session:
        assert session.request("GET", url, data={"a": "b c", "ü": "+"}).status_code == 200
    with OAuth1Session(signing.key, client_secret=signing.secret, signature_method=SHA_256) as session:
        assert session.request("GET", url, json={"a": "b c"}).status_code == 200
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Authorization": signing.header(USERS)}
    tampered = requests.get(url, data="a=b", headers=headers, timeout=30)
    assert tampered.status_code == 401


def test_each_page_is_signed_again(signing: SigningClient, session: requests.Session) -> None:
    url, ids = f"{signing.site}{USERS}?limit=40&filter=role%3D%27student%27", list[str]()
    while url:
        response = session.get(url)
        assert response.status_code == 200
        ids += [each["sourcedId"] for each in response.json()["users"]]
        url = response.links.get("next", {}).get("url", "")
    assert len(ids) == len(set(ids)) == int(response.headers["X-Total-Count"]) > 40


def rejection_message(response: Response, status: int = 401) -> str:
    """Return the message of a rejected request, after checking the rest of the response."""
    assert response.status == status, response.body
    error, challenge = {401: ("invalid_token", 'OAuth realm="OneRoster"'), 400: ("invalid_data", None)}[status]
    assert (response.json["error"], response.headers["WWW-Authenticate"]) == (error, challenge)
    assert response.json["statusInfoSet"][0]["imsx_codeMinor"] == {401: "unauthorized", 400: "invalid data"}[status]
    message: str = response.json["message"]
    return message


INVALID_SIGNATURE = "The OAuth 1.0a signature is invalid, expired or already used."


@pytest.mark.parametrize("make", LIBRARIES.values(), ids=LIBRARIES)
def test_wrong_secret_is_rejected(signing: SigningClient, monkeypatch: pytest.MonkeyPatch, make: MakeSession) -> None:
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")
    with make(signing.key, signing.secret[:-1] + "x") as session:
        response = session.get(signing.site + USERS)
    assert (response.status_code, response.json()["message"]) == (401, INVALID_SIGNATURE)


@pytest.mark.reading("O-06")
@pytest.mark.parametrize(
    "options",
    [
        {"key": "chk_client_0000000000000000"},
        {"key": "ö" * 100},
        {"client_secret": ""},
        {"resource_owner_key": "a-token"},
        {"resource_owner_secret": "its secret"},
        {"site": "http://other.example.org"},
        {"sent_as": USERS + "?limit=1"},
        {"sent_as": USERS + "/"},
        {"sent_as": f"{CHALK}/users"},
        {"sent_as": f"{IMS}/sis/users"},
        {"sent_as": f"{IMS}/orgs"},
    ],
)
def test_request_with_another_signature_is_rejected(signing: SigningClient, options: dict[str, Any]) -> None:
    """Reading O-06."""
    assert rejection_message(signing.request(USERS, **options)) == INVALID_SIGNATURE


def test_tampered_query_is_rejected(signing: SigningClient) -> None:
    path = f"{USERS}?filter=role%3D'student'&limit=2"
    for sent_as in (path.replace("student", "teacher"), path.replace("=2", "=3"), f"{path}&offset=1", USERS):
        assert rejection_message(signing.request(path, sent_as=sent_as)) == INVALID_SIGNATURE
    assert signing.request(path, sent_as=f"{USERS}?limit=2&filter=role=%27student%27").status == 200


def test_repeated_request_is_rejected(signing: SigningClient) -> None:
    for method in (SHA_1, SHA_256):
        header = signing.header(USERS, signature_method=method)
        assert signing.service.request(USERS, Authorization=header).status == 200
        assert rejection_message(signing.service.request(USERS, Authorization=header)) == INVALID_SIGNATURE


@pytest.mark.reading("O-03")
@pytest.mark.parametrize(("offset", "status"), [(-550, 200), (-620, 401), (290, 200), (380, 401)])
def test_timestamp_may_be_ten_minutes_old_or_five_ahead(signing: SigningClient, offset: int, status: int) -> None:
    assert signing.request(USERS, timestamp=str(int(time.time()) + offset)).status == status


@pytest.mark.reading("A-16")
@pytest.mark.parametrize("method", ["PLAINTEXT", "HMAC-SHA512"])
def test_other_signature_method_is_malformed(signing: SigningClient, method: str) -> None:
    message = rejection_message(signing.request(USERS, signature_method=method), 400)
    assert message == "oauth_signature_method must be HMAC-SHA256 or HMAC-SHA1."


def test_signature_with_a_private_key_is_malformed(signing: SigningClient) -> None:
    header = signing.header(USERS).replace(SHA_1, "RSA-SHA1")
    assert "oauth_signature_method" in rejection_message(signing.service.request(USERS, Authorization=header), 400)


@pytest.mark.reading("O-04")
@pytest.mark.parametrize("name", ["oauth_consumer_key", "oauth_nonce"])
def test_missing_or_repeated_parameter_is_malformed(signing: SigningClient, name: str) -> None:
    scheme, _, rest = signing.header(USERS).partition(" ")
    parameters = rest.split(", ")
    [parameter] = [each for each in parameters if each.startswith(f"{name}=")]
    without = ", ".join(each for each in parameters if each != parameter)
    message = rejection_message(signing.service.request(USERS, Authorization=f"{scheme} {without}"), 400)
    assert message == f"The Authorization header requires {name}."
    message = rejection_message(signing.service.request(USERS, Authorization=f"{scheme} {rest}, {parameter}"), 400)
    assert message == "The Authorization header contains a parameter more than once."


@pytest.mark.parametrize(
    "header",
    ["OAuth", "oauth ", "OAuth nonsense", 'OAuth oauth_nonce="', "OAuth " + "a" * 9000, "OAuth\ta=1"],
)
def test_unreadable_oauth_header_is_malformed(signing: SigningClient, header: str) -> None:
    rejection_message(signing.service.request(USERS, Authorization=header), 400)


def test_two_authorization_headers_are_rejected(signing: SigningClient) -> None:
    for other in (signing.header(USERS), f"Bearer {signing.service.token}"):
        with closing(http.client.HTTPConnection("127.0.0.1", signing.service.port, timeout=30)) as connection:
            connection.putrequest("GET", USERS)
            connection.putheader("Authorization", signing.header(USERS))
            connection.putheader("Authorization", other)
            connection.endheaders()
            assert connection.getresponse().status == 400


def test_scheme_is_case_insensitive(signing: SigningClient) -> None:
    header = "oAUTH" + signing.header(USERS).removeprefix("OAuth")
    assert signing.service.request(USERS, Authorization=header).status == 200


def test_query_with_too_many_parameters_is_rejected(signing: SigningClient) -> None:
    assert "1000 parameters" in rejection_message(signing.request(f"{USERS}?{'a=1&' * 1001}"), 400)


def test_oauth_parameters_in_the_query_are_not_accepted(signing: SigningClient) -> None:
    url, _, _ = Client(signing.key, signing.secret, signature_type="QUERY").sign(signing.site + USERS)
    path = url.removeprefix(signing.site)
    assert signing.service.request(path, Authorization="").headers["WWW-Authenticate"] == "Bearer"
    assert "in the Authorization header only" in rejection_message(signing.request(USERS, sent_as=path), 400)


def test_client_without_oauth1_is_rejected(signing: SigningClient, folder: Path) -> None:
    key, secret = create_client(folder)
    assert rejection_message(signing.request(USERS, key=key, client_secret=secret)) == INVALID_SIGNATURE


def test_missing_scope_is_forbidden(signing: SigningClient, folder: Path) -> None:
    key, secret = create_client(folder, "--oauth1", "--scope", "gradebook.readonly")
    assert signing.request(f"{IMS}/results", key=key, client_secret=secret).status == 200
    response = signing.request(USERS, key=key, client_secret=secret)
    assert (response.status, response.json["error"]) == (403, "forbidden")
    assert response.json["message"].endswith("the required scope: roster-core.readonly or roster.readonly.")


@pytest.mark.reading("O-05")
def test_restrictions_of_a_client_apply_to_signed_requests(signing: SigningClient, folder: Path) -> None:
    key, secret = create_client(folder, "--oauth1", "--restrict-org", "org-north")
    response = signing.request(f"{CHALK}/schools", key=key, client_secret=secret)
    assert [each["sourcedId"] for each in response.records] == ["org-north"]


def test_grade_tool_writes_with_signed_requests(signing: SigningClient, folder: Path) -> None:
    url = f"{signing.site}{IMS}/categories/signed"
    # Authlib removes a JSON body from a request that it signs.
    with requests_oauthlib(SHA_256)(*create_client(folder, "--oauth1", "--scope", "all")) as session:
        response = session.put(url, json={"category": {"sourcedId": "signed", "title": "Signed & stored"}})
        assert (response.status_code, response.json()["category"]["title"]) == (201, "Signed & stored")
        assert session.get(url).json() == response.json()
        assert session.delete(url).status_code == 204
        assert session.get(url).status_code == 404


def test_revoked_client_is_rejected_at_once(signing: SigningClient, folder: Path) -> None:
    key, secret = create_client(folder, "--oauth1")
    assert signing.request(USERS, key=key, client_secret=secret).status == 200
    run_command(folder, "client", "revoke", key)
    assert rejection_message(signing.request(USERS, key=key, client_secret=secret)) == INVALID_SIGNATURE


def test_former_secret_signs_during_the_overlap_of_a_rotation(signing: SigningClient, folder: Path) -> None:
    key, former = create_client(folder, "--oauth1")
    for overlap, status in (("1h", 200), ("0s", 401)):
        new = json.loads(run_command(folder, "client", "rotate", key, "--overlap", overlap, "--json"))["client_secret"]
        assert signing.request(USERS, key=key, client_secret=new).status == 200
        assert signing.request(USERS, key=key, client_secret=former).status == status
        former = new


def test_client_of_a_deleted_tenant_is_rejected(signing: SigningClient, folder: Path) -> None:
    run_command(folder, "tenant", "create", "north")
    key, secret = create_client(folder, "--oauth1", "--tenant", "north")
    response = signing.request(USERS, key=key, client_secret=secret)
    assert (response.status, response.records) == (200, [])
    run_command(folder, "tenant", "delete", "north", "--yes")
    assert rejection_message(signing.request(USERS, key=key, client_secret=secret)) == INVALID_SIGNATURE


def test_files_contain_no_secret_in_clear(signing: SigningClient, folder: Path) -> None:
    assert signing.request(USERS).status == 200
    paths = [each for each in folder.rglob("*") if each.is_file()]
    assert folder / "chalk-data" / "secrets.key" in paths
    for each in paths:
        assert signing.secret.removeprefix("chk_secret_").encode() not in each.read_bytes(), each


@pytest.mark.reading("O-01")
def test_public_url_is_signed(folder: Path) -> None:
    key, secret = create_client(folder, "--oauth1")
    with serve(folder, "none", "--public-url", PROXY) as service:
        signing = SigningClient(service, key, secret)
        path = f"{IMS}/terms/{quote(SPECIAL, safe='')}"
        assert signing.request(path, site="https://roster.example.org/district").status == 200
        assert rejection_message(signing.request(path)) == INVALID_SIGNATURE
        assert rejection_message(signing.request(path, site="https://roster.example.org")) == INVALID_SIGNATURE


@pytest.mark.reading("O-01")
def test_signature_for_a_host_that_is_not_configured_is_rejected(folder: Path) -> None:
    key, secret = create_client(folder, "--oauth1")
    forwarded = {"X_Forwarded_Proto": "https", "X_Forwarded_Host": "roster.example.org", "X_Forwarded_Port": "443"}
    with serve(folder, "none", "--trusted-proxy", "127.0.0.1") as service:
        signing = SigningClient(service, key, secret)
        for site, headers in {
            signing.site: {},
            "http://other.example.org": {"Host": "other.example.org"},
            "https://roster.example.org": forwarded,
        }.items():
            header = signing.header(USERS, site=site)
            message = rejection_message(service.request(USERS, Authorization=header, **headers))
            assert "the service has no public_url" in message
    with serve(folder, "none", "--trusted-proxy", "127.0.0.1", is_public=True) as service:
        signing = SigningClient(service, key, secret)
        header = signing.header(USERS, site="https://roster.example.org")
        assert rejection_message(service.request(USERS, Authorization=header, **forwarded)) == INVALID_SIGNATURE
        assert service.request(USERS, Authorization=signing.header(USERS), **forwarded).status == 200


@pytest.mark.reading("O-02")
@pytest.mark.parametrize("method", [SHA_1, SHA_256])
def test_json_body_must_have_the_hash_that_the_client_sent(
    signing: SigningClient, folder: Path, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    key, secret = create_client(folder, "--oauth1", "--scope", "all")
    path, headers = f"{IMS}/categories/hashed", {"Content-Type": "application/json"}
    body = json.dumps({"category": {"sourcedId": "hashed", "title": "Hashed"}})
    for sent, status in ((body.replace("Hashed", "Forged"), 401), (body, 201)):
        client = Client(key, secret, signature_method=method)
        _, signed, _ = client.sign(signing.site + path, "PUT", body, headers)
        assert "oauth_body_hash" in signed["Authorization"]
        response = requests.put(signing.site + path, data=sent, headers=signed, timeout=30)
        assert response.status_code == status, response.text
    signed_delete = signing.header(path, "DELETE", key=key, client_secret=secret)
    assert signing.service.request(path, "DELETE", Authorization=signed_delete).status == 204
