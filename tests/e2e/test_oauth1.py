"""OAuth 1.0a over sockets: requests signed by the libraries that consumers use get in, everything else does not."""

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

Make = Callable[[str, str], requests.Session]


@dataclass(frozen=True)
class Signing:
    """A server, and a client whose requests may be signed."""

    served: RunningService
    key: str
    secret: str

    @property
    def site(self) -> str:
        return f"http://127.0.0.1:{self.served.port}"

    def header(self, path: str, method: str = "GET", site: str = "", **options: Any) -> str:
        """The Authorization header of a request, as oauthlib makes it."""
        secret = options.pop("client_secret", self.secret)
        _, headers, _ = Client(options.pop("key", self.key), secret, **options).sign((site or self.site) + path, method)
        header: str = headers["Authorization"]
        return header

    def ask(self, path: str, method: str = "GET", sent_as: str = "", **options: Any) -> Response:
        """The answer to a request for `path`, signed, that is sent as one for another path."""
        return self.served.request(sent_as or path, method, Authorization=self.header(path, method, **options))


def requests_oauthlib(method: str) -> Make:
    return lambda key, secret: OAuth1Session(key, client_secret=secret, signature_method=method)


def authlib(key: str, secret: str) -> requests.Session:
    session: requests.Session = AuthlibSession(key, client_secret=secret, signature_method=SHA_1)
    return session


LIBRARIES: dict[str, Make] = {
    "requests-oauthlib, SHA-1": requests_oauthlib(SHA_1),
    "requests-oauthlib, SHA-256": requests_oauthlib(SHA_256),
    "Authlib, SHA-1": authlib,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample district with a term whose id has to be percent-encoded, in SQLite."""
    made = tmp_path_factory.mktemp("signed")
    shutil.copytree(DEMO, made / "package")
    with (made / "package" / "academicSessions.csv").open("a", encoding="utf-8") as sessions:
        sessions.write(f'"{SPECIAL}",,,Extra,term,2026-08-01,2027-01-31,,2027\r\n')
    run_command(made, "import", "package")
    return made


def created(folder: Path, *words: str) -> tuple[str, str]:
    made = json.loads(run_command(folder, "client", "create", "--label", "a signer", "--json", *words))
    return made["client_id"], made["client_secret"]


def bearer(folder: Path) -> str:
    token: str = json.loads(run_command(folder, "token", "create", "--label", "e2e", "--json"))["token"]
    return token


@pytest.fixture(scope="module")
def signing(folder: Path) -> Iterator[Signing]:
    key, secret = created(folder, "--oauth1")
    with serve(folder, bearer(folder)) as served:
        yield Signing(served, key, secret)


@pytest.fixture(params=LIBRARIES)
def session(
    request: pytest.FixtureRequest, signing: Signing, monkeypatch: pytest.MonkeyPatch
) -> Iterator[requests.Session]:
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")  # its client refuses plain HTTP otherwise, even to 127.0.0.1
    with LIBRARIES[request.param](signing.key, signing.secret) as made:
        yield made


@pytest.fixture(params=["requests-oauthlib, SHA-1", "requests-oauthlib, SHA-256"])
def library(request: pytest.FixtureRequest) -> Make:
    """The libraries that send a JSON body along; Authlib's takes it out of a request that it signs."""
    return LIBRARIES[request.param]


@pytest.mark.parametrize("root", [IMS, CHALK, f"{IMS}/sis", f"{CHALK}/sis"])
def test_a_signed_request_gets_what_a_token_gets_under_every_root(
    signing: Signing, session: requests.Session, root: str
) -> None:
    answer = session.get(f"{signing.site}{root}/users", params={"limit": "3", "sort": "familyName"})
    assert answer.status_code == 200
    assert answer.content == signing.served.request(f"{root}/users?limit=3&sort=familyName").body


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
def test_whatever_a_query_holds_is_signed_and_understood(
    signing: Signing, session: requests.Session, query: Any
) -> None:
    answer = session.get(signing.site + USERS, params=query)
    assert answer.status_code == 200, answer.text
    by_token = requests.get(
        signing.site + USERS, params=query, headers={"Authorization": f"Bearer {signing.served.token}"}, timeout=30
    )
    assert answer.content == by_token.content
    assert answer.headers["X-Total-Count"] == by_token.headers["X-Total-Count"]


@pytest.mark.parametrize("blank", ["%20", "+"])
def test_a_blank_is_signed_in_one_way_however_it_is_written(signing: Signing, blank: str) -> None:
    path = f"{USERS}?filter=givenName%3D'Mary{blank}Jane'"
    answer = signing.ask(path)
    assert (answer.status, len(answer.records)) == (200, 1)


def test_a_parameter_that_the_service_refuses_is_refused_for_what_it_is(
    signing: Signing, session: requests.Session
) -> None:
    answer = session.get(signing.site + USERS, params=[("limit", "1"), ("limit", "2")])
    assert (answer.status_code, answer.json()["message"]) == (400, "limit is given more than once.")


def test_an_id_with_encoded_characters_is_signed_as_it_was_sent(signing: Signing, session: requests.Session) -> None:
    answer = session.get(f"{signing.site}{IMS}/terms/{quote(SPECIAL, safe='')}")
    assert (answer.status_code, answer.json()["academicSession"]["sourcedId"]) == (200, SPECIAL)


def test_an_encoded_slash_is_not_a_slash_in_a_signature(signing: Signing) -> None:
    encoded = f"{IMS}/terms/{quote(SPECIAL, safe='')}"
    assert signing.ask(encoded, sent_as=encoded.replace("%2F", "%2f", 1)).status == 401
    assert signing.ask(encoded, sent_as=encoded.replace("%2F", "/", 1)).status in (401, 404)


def test_head_is_signed_as_head(signing: Signing, session: requests.Session) -> None:
    answer = session.head(signing.site + USERS)
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["X-Total-Count"]) > 0
    assert signing.served.request(USERS, "HEAD", Authorization=signing.header(USERS)).status == 401


def test_a_form_is_signed_and_a_json_body_is_not(signing: Signing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading O-02."""
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")
    url = signing.site + USERS
    # oauthlib signs no form of a GET.
    with authlib(signing.key, signing.secret) as session:
        assert session.request("GET", url, data={"a": "b c", "ü": "+"}).status_code == 200
    with OAuth1Session(signing.key, client_secret=signing.secret, signature_method=SHA_256) as session:
        assert session.request("GET", url, json={"a": "b c"}).status_code == 200
    sent = {"Content-Type": "application/x-www-form-urlencoded", "Authorization": signing.header(USERS)}
    tampered = requests.get(url, data="a=b", headers=sent, timeout=30)
    assert tampered.status_code == 401


def test_every_page_of_a_walk_is_signed_anew(signing: Signing, session: requests.Session) -> None:
    url, seen = f"{signing.site}{USERS}?limit=40&filter=role%3D%27student%27", list[str]()
    while url:
        answer = session.get(url)
        assert answer.status_code == 200
        seen += [each["sourcedId"] for each in answer.json()["users"]]
        url = answer.links.get("next", {}).get("url", "")
    assert len(seen) == len(set(seen)) == int(answer.headers["X-Total-Count"]) > 40


def refused(answer: Response, status: int = 401) -> str:
    """The message of a refusal, which must have all its marks."""
    assert answer.status == status, answer.body
    error, challenge = {401: ("invalid_token", 'OAuth realm="OneRoster"'), 400: ("invalid_data", None)}[status]
    assert (answer.json["error"], answer.headers["WWW-Authenticate"]) == (error, challenge)
    assert answer.json["statusInfoSet"][0]["imsx_codeMinor"] == {401: "unauthorized", 400: "invalid data"}[status]
    message: str = answer.json["message"]
    return message


SAME = "The signature does not fit the request, its time has passed, or it was used before."


@pytest.mark.parametrize("make", LIBRARIES.values(), ids=LIBRARIES)
def test_a_wrong_secret_is_refused(signing: Signing, monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")
    with make(signing.key, signing.secret[:-1] + "x") as session:
        answer = session.get(signing.site + USERS)
    assert (answer.status_code, answer.json()["message"]) == (401, SAME)


@pytest.mark.parametrize(
    "options",
    [
        {"key": "nobody"},
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
def test_what_the_clients_secret_did_not_sign_is_refused(signing: Signing, options: dict[str, Any]) -> None:
    """Reading O-06."""
    assert refused(signing.ask(USERS, **options)) == SAME


def test_a_tampered_query_is_refused(signing: Signing) -> None:
    path = f"{USERS}?filter=role%3D'student'&limit=2"
    for sent in (path.replace("student", "teacher"), path.replace("=2", "=3"), f"{path}&offset=1", USERS):
        assert refused(signing.ask(path, sent_as=sent)) == SAME
    assert signing.ask(path, sent_as=f"{USERS}?limit=2&filter=role=%27student%27").status == 200


def test_a_request_that_is_sent_twice_is_answered_once(signing: Signing) -> None:
    for method in (SHA_1, SHA_256):
        header = signing.header(USERS, signature_method=method)
        assert signing.served.request(USERS, Authorization=header).status == 200
        assert refused(signing.served.request(USERS, Authorization=header)) == SAME


@pytest.mark.parametrize(("offset", "status"), [(-590, 200), (-620, 401), (290, 200), (320, 401)])
def test_a_timestamp_may_be_ten_minutes_old_and_five_ahead(signing: Signing, offset: int, status: int) -> None:
    """Reading O-03."""
    assert signing.ask(USERS, timestamp=str(int(time.time()) + offset)).status == status


@pytest.mark.parametrize("method", ["PLAINTEXT", "HMAC-SHA512"])
def test_other_signature_methods_are_malformed(signing: Signing, method: str) -> None:
    """Reading A-16."""
    said = refused(signing.ask(USERS, signature_method=method), 400)
    assert said == "oauth_signature_method must be HMAC-SHA256 or HMAC-SHA1."


def test_a_signature_with_a_private_key_is_malformed(signing: Signing) -> None:
    header = signing.header(USERS).replace(SHA_1, "RSA-SHA1")
    assert "oauth_signature_method" in refused(signing.served.request(USERS, Authorization=header), 400)


@pytest.mark.parametrize(
    "name", ["oauth_consumer_key", "oauth_signature_method", "oauth_signature", "oauth_timestamp", "oauth_nonce"]
)
def test_a_parameter_that_is_missing_or_stands_twice_is_malformed(signing: Signing, name: str) -> None:
    """Reading O-04."""
    scheme, _, rest = signing.header(USERS).partition(" ")
    parameters = rest.split(", ")
    [chosen] = [each for each in parameters if each.startswith(f"{name}=")]
    without = ", ".join(each for each in parameters if each != chosen)
    said = refused(signing.served.request(USERS, Authorization=f"{scheme} {without}"), 400)
    assert said == f"The Authorization header is without {name}."
    said = refused(signing.served.request(USERS, Authorization=f"{scheme} {rest}, {chosen}"), 400)
    assert said == "A parameter stands in the Authorization header more than once."


@pytest.mark.parametrize(
    "header",
    ["OAuth", "oauth ", "OAuth nonsense", 'OAuth oauth_nonce="', "OAuth " + "a" * 9000, "OAuth\ta=1"],
)
def test_a_header_that_says_oauth_and_cannot_be_read_is_malformed(signing: Signing, header: str) -> None:
    refused(signing.served.request(USERS, Authorization=header), 400)


def test_two_authorization_headers_let_nobody_in(signing: Signing) -> None:
    for other in (signing.header(USERS), f"Bearer {signing.served.token}"):
        with closing(http.client.HTTPConnection("127.0.0.1", signing.served.port, timeout=30)) as connection:
            connection.putrequest("GET", USERS)
            connection.putheader("Authorization", signing.header(USERS))
            connection.putheader("Authorization", other)
            connection.endheaders()
            assert connection.getresponse().status == 400


def test_the_scheme_may_be_written_in_any_case(signing: Signing) -> None:
    header = "oAUTH" + signing.header(USERS).removeprefix("OAuth")
    assert signing.served.request(USERS, Authorization=header).status == 200


def test_a_query_of_more_parameters_than_anyone_needs_is_not_sorted(signing: Signing) -> None:
    assert "1000 parameters" in refused(signing.ask(f"{USERS}?{'a=1&' * 1001}"), 400)


def test_oauth_parameters_in_the_query_are_no_credential(signing: Signing) -> None:
    url, _, _ = Client(signing.key, signing.secret, signature_type="QUERY").sign(signing.site + USERS)
    path = url.removeprefix(signing.site)
    assert signing.served.request(path, Authorization="").headers["WWW-Authenticate"] == "Bearer"
    assert "header alone" in refused(signing.ask(USERS, sent_as=path), 400)


def test_a_client_that_was_not_allowed_to_sign_is_refused(signing: Signing, folder: Path) -> None:
    key, secret = created(folder)
    assert refused(signing.ask(USERS, key=key, client_secret=secret)) == SAME


def test_a_missing_scope_is_forbidden(signing: Signing, folder: Path) -> None:
    key, secret = created(folder, "--oauth1", "--scope", "gradebook.readonly")
    assert signing.ask(f"{IMS}/results", key=key, client_secret=secret).status == 200
    answer = signing.ask(USERS, key=key, client_secret=secret)
    assert (answer.status, answer.json["error"]) == (403, "forbidden")
    assert answer.json["message"] == "The client does not have the scope that this needs."


def test_limits_of_a_client_hold_for_what_it_signs(signing: Signing, folder: Path) -> None:
    """Reading O-05."""
    key, secret = created(folder, "--oauth1", "--restrict-org", "org-north")
    answer = signing.ask(f"{CHALK}/schools", key=key, client_secret=secret)
    assert [each["sourcedId"] for each in answer.records] == ["org-north"]


def test_a_grade_tool_writes_with_signatures(signing: Signing, folder: Path, library: Make) -> None:
    url = f"{signing.site}{IMS}/categories/signed"
    with library(*created(folder, "--oauth1", "--scope", "all")) as session:
        made = session.put(url, json={"category": {"sourcedId": "signed", "title": "Signed & sealed"}})
        assert (made.status_code, made.json()["category"]["title"]) == (201, "Signed & sealed")
        assert session.get(url).json() == made.json()
        assert session.delete(url).status_code == 204
        assert session.get(url).status_code == 404


def test_a_revoked_client_is_out_within_a_second(signing: Signing, folder: Path) -> None:
    key, secret = created(folder, "--oauth1")
    assert signing.ask(USERS, key=key, client_secret=secret).status == 200
    run_command(folder, "client", "revoke", key)
    time.sleep(1)
    assert refused(signing.ask(USERS, key=key, client_secret=secret)) == SAME


def test_the_former_secret_signs_during_the_overlap_of_a_rotation(signing: Signing, folder: Path) -> None:
    key, former = created(folder, "--oauth1")
    for overlap, status in (("1h", 200), ("0s", 401)):
        new = json.loads(run_command(folder, "client", "rotate", key, "--overlap", overlap, "--json"))["client_secret"]
        time.sleep(1)
        assert signing.ask(USERS, key=key, client_secret=new).status == 200
        assert signing.ask(USERS, key=key, client_secret=former).status == status
        former = new


def test_a_client_of_a_deleted_tenant_is_out(signing: Signing, folder: Path) -> None:
    run_command(folder, "tenant", "create", "north")
    key, secret = created(folder, "--oauth1", "--tenant", "north")
    answer = signing.ask(USERS, key=key, client_secret=secret)
    assert (answer.status, answer.records) == (200, [])
    run_command(folder, "tenant", "delete", "north", "--yes")
    time.sleep(1)
    assert refused(signing.ask(USERS, key=key, client_secret=secret)) == SAME


def test_no_file_of_the_service_holds_a_secret_in_clear(signing: Signing, folder: Path) -> None:
    assert signing.ask(USERS).status == 200
    files = [each for each in folder.rglob("*") if each.is_file()]
    assert folder / "chalk-data" / "secrets.key" in files
    for each in files:
        assert signing.secret.removeprefix("chk_secret_").encode() not in each.read_bytes(), each


def test_behind_a_proxy_the_public_address_is_what_is_signed(folder: Path, tmp_path: Path) -> None:
    """Reading O-01."""
    key, secret = created(folder, "--oauth1")
    with serve(folder, "none", "--public-url", PROXY) as served:
        signing = Signing(served, key, secret)
        path = f"{IMS}/terms/{quote(SPECIAL, safe='')}"
        assert signing.ask(path, site="https://roster.example.org/district").status == 200
        assert refused(signing.ask(path)) == SAME
        assert refused(signing.ask(path, site="https://roster.example.org")) == SAME


def test_a_trusted_proxy_says_which_address_is_signed(folder: Path) -> None:
    key, secret = created(folder, "--oauth1")
    with serve(folder, "none", "--trusted-proxy", "127.0.0.1") as served:
        signing = Signing(served, key, secret)
        forwarded = {"X_Forwarded_Proto": "https", "X_Forwarded_Host": "roster.example.org", "X_Forwarded_Port": "443"}
        header = signing.header(USERS, site="https://roster.example.org")
        assert served.request(USERS, Authorization=header, **forwarded).status == 200
        assert served.request(USERS, Authorization=signing.header(USERS)).status == 200
