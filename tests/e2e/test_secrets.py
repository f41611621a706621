"""No secret is kept in clear, whatever is done with it; and what is logged tells nothing of anybody.

A service runs with its chattiest log, credentials of every kind are made and used rightly and wrongly, and then every
file that it left is searched for them.
"""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from requests_oauthlib import OAuth1Session
from standardwebhooks import Webhook

from chalk_flask.auth.clients.assertions import JWT_BEARER
from tests.e2e.conftest import DEMO
from tests.support.keys import AUDIENCE, ISSUER, make_jwks, rsa_key, sign_jwt
from tests.support.receiver import respond, run_receiver
from tests.support.services import (
    API,
    CANARY,
    GRANT,
    ServiceFolder,
    demo_users,
    encoded_secrets,
    log_text,
    read_files,
)


@pytest.fixture(scope="module", params=["sqlite:///chalk.db", "json:///store"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ServiceFolder:
    """A service after all of it: stopped, with everything that it wrote."""
    made = ServiceFolder(tmp_path_factory.mktemp("secrets"), request.param)
    (made.folder / "tmp").mkdir()
    made.run("import", DEMO)
    credentials(made)
    with serving(made):
        use_rightly(made)
        use_wrongly(made)
        at_the_token_endpoint(made)
        on_a_bare_socket(made)
        by_webhook(made)
    for words in ("webhook list", "webhook list --json", *(f"webhook show {key}" for key in made.webhooks)):
        made.shown.append(made.run(*words.split()).replace(CANARY, ""))  # URLs are for the operator to see
    for words in ("token list", "client list --json", "issuer list --json", "audit", "config show --json", "check"):
        made.shown.append(made.run(*words.split()))
    return made


def credentials(place: ServiceFolder) -> None:
    """One of every kind that there is; what is shown once is remembered."""
    place.secrets["token"] = place.create("token", "create", "--label", "reader", "--scope", "all")["token"]
    revoked = place.create("token", "create", "--label", "revoked")
    place.secrets["revoked token"] = revoked["token"]
    place.run("token", "revoke", revoked["id"])
    for name, words in {"client": (), "signing client": ("--oauth1",)}.items():
        client = place.create("client", "create", "--label", name, *words)
        place.secrets[name] = client["client_secret"]
        place.secrets[f"{name} id"] = client["client_id"]
    rotated = place.create("client", "rotate", place.secrets["client id"])
    place.secrets["former secret"], place.secrets["client"] = place.secrets["client"], rotated["client_secret"]
    key = rsa_key("secrets")
    (place.folder / "tmp" / "jwks.json").write_bytes(make_jwks(key))
    place.run("issuer", "add", "--iss", ISSUER, "--aud", AUDIENCE, "--jwks-file", place.folder / "tmp" / "jwks.json")
    keyed = place.create("client", "create", "--label", "keyed", "--jwks-file", place.folder / "tmp" / "jwks.json")
    place.secrets["keyed id"] = keyed["client_id"]
    place.secrets["JWT"] = sign_jwt(key, sub=CANARY)


@contextmanager
def serving(place: ServiceFolder) -> Iterator[None]:
    """`chalk-flask serve`, with what it says in two files of the folder."""
    with (place.folder / "out.txt").open("wb") as out, (place.folder / "err.txt").open("wb") as err:
        command = [sys.executable, "-m", "chalk_flask", "serve", "--port", "0"]
        with subprocess.Popen(command, cwd=place.folder, env=place.environ, stdout=out, stderr=err) as process:
            try:
                place.url = address(place.folder / "err.txt")
                yield
                process.terminate()
                assert process.wait(40) == 0
            finally:
                process.kill()


def address(log: Path) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if match := re.search(r"Listening on (http://\S+)", log.read_text(encoding="utf-8")):
            return match[1]
        time.sleep(0.05)
    raise AssertionError("the service did not listen")


def use_rightly(place: ServiceFolder) -> None:
    """Every way in, with questions that tell about people."""
    user = demo_users()[0]
    token = place.request(
        "/oauth/token",
        method="POST",
        data=GRANT,
        auth=(place.secrets["client id"], place.secrets["client"]),
    ).json()["access_token"]
    form = {
        **GRANT,
        "client_id": place.secrets["signing client id"],
        "client_secret": place.secrets["signing client"],
    }
    other = place.request("/oauth/token", method="POST", data=form).json()["access_token"]
    place.secrets |= {"access token": token, "access token by form": other}
    assertion = sign_jwt(
        rsa_key("secrets"), iss=place.secrets["keyed id"], sub=place.secrets["keyed id"], jti="1",
        aud=f"{place.url}/oauth/token",
    )  # fmt: skip
    place.secrets["assertion"] = assertion
    asked = {**GRANT, "client_assertion_type": JWT_BEARER, "client_assertion": assertion}
    place.secrets["access token by key"] = place.request("/oauth/token", method="POST", data=asked).json()[
        "access_token"
    ]
    for name in ("token", "JWT", "access token", "access token by form", "access token by key"):
        bearer = f"Bearer {place.secrets[name]}"
        for query in (f"filter=email='{user['email']}'", f"filter=familyName='{user['familyName']}'", "fields=email"):
            assert place.request(f"{API}/users?{query}", bearer).status_code == 200, name
        assert place.request(f"{API}/users/{user['sourcedId']}", bearer).json()["user"]["email"] == user["email"]
        assert place.request(f"{API}/users?filter=familyName~'{CANARY}'&sort=email", bearer).status_code == 200
        assert place.request(f"{API}/users/{CANARY}", bearer).status_code == 404
    session = OAuth1Session(place.secrets["signing client id"], client_secret=place.secrets["signing client"])
    with session:
        assert session.get(f"{place.url}{API}/users?filter=familyName~'{CANARY}'", timeout=30).status_code == 200


def use_wrongly(place: ServiceFolder) -> None:
    """Secrets in every place where they do not belong."""
    for name, secret in place.secrets.items():
        if name.endswith(" id"):
            continue
        basic = base64.b64encode(f"{place.secrets['client id']}:{secret}".encode()).decode()
        for authorization in (
            secret,
            f"Basic {basic}",
            f"Token {secret}",
            f"OAuth {secret}",
            f"Bearer {secret}x",
            basic,
        ):
            assert place.request(f"{API}/users", authorization).status_code in (400, 401), name
        for path in (
            f"/users?access_token={secret}",
            f"/users/{secret}",
            f"/users?filter=email='{secret}'",
            f"/{secret}",
        ):
            assert place.request(API + path).status_code in (401, 404), name
            assert place.request(API + path, f"Bearer {place.secrets['token']}").status_code in (200, 400, 404), name
        for method in ("POST", "PUT", "DELETE"):
            body = {"access_token": secret, "lineItem": {"title": CANARY}}
            assert place.request(f"{API}/lineItems/{secret}", f"Bearer {secret}x", method, json=body).status_code >= 400
    assert place.request(f"{API}/users", f"Bearer {place.secrets['revoked token']}").status_code == 401
    with OAuth1Session(place.secrets["signing client id"], client_secret=place.secrets["client"]) as session:
        assert session.get(f"{place.url}{API}/users", timeout=30).status_code == 401


def at_the_token_endpoint(place: ServiceFolder) -> None:
    """Secrets as ids, in the URL, in JSON, as scopes, of another client, and one that has ended."""
    client, secret = place.secrets["client id"], place.secrets["client"]
    wrong: list[dict[str, Any]] = [
        {"auth": (secret, client), "data": GRANT},
        {"auth": (client, place.secrets["signing client"]), "data": GRANT},
        {"auth": (client, place.secrets["former secret"] + "x"), "data": GRANT},
        {"params": {**GRANT, "client_id": client, "client_secret": secret}},
        {"json": {**GRANT, "client_id": client, "client_secret": secret}},
        {"auth": (client, secret), "data": {"grant_type": secret}},
        {"auth": (client, secret), "data": {**GRANT, "scope": secret}},
        {"data": {**GRANT, "client_id": client, "client_secret": [secret, secret]}},
        {"data": {**GRANT, "client_assertion_type": JWT_BEARER, "client_assertion": place.secrets["JWT"]}},
        {
            "data": {
                **GRANT,
                "client_assertion_type": JWT_BEARER,
                "client_assertion": place.secrets["assertion"],
            }
        },
        {"data": f"{secret}&&=%%{secret}".encode()},
    ]
    for options in wrong:
        answer = place.request("/oauth/token", method="POST", **options)
        assert answer.status_code in (400, 401), options
        assert secret not in answer.text


def on_a_bare_socket(place: ServiceFolder) -> None:
    """What is no HTTP, with a secret in it."""
    port, token = int(place.url.rpartition(":")[2]), place.secrets["token"]
    for text in (f"GET /{token} HTTP/9.9\r\n\r\n", f"{token}\r\n\r\n", f"GET / HTTP/1.1\r\n{token}\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(text.encode())
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass


def by_webhook(place: ServiceFolder) -> None:
    """Deliveries with names in them, to one who takes them and to one who does not; each has a secret in its URL."""
    answers = {"kind": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "unkind": b"HTTP/1.1 500 No\r\n\r\n"}
    for name, answer in answers.items():
        with run_receiver(respond(answer, close=name == "unkind")) as receiver:
            url = receiver.url.replace("hush", CANARY)
            made = place.create("webhook", "create", "--url", url, "--full", "--label", name)
            place.webhooks.append(made["id"])
            rotated = place.create("webhook", "rotate", made["id"])
            place.secrets |= {f"{name} former webhook": made["secret"], f"{name} webhook": rotated["secret"]}
            bearer = f"Bearer {place.secrets['token']}"
            body = {"category": {"title": f"{demo_users()[0]['familyName']} {CANARY}"}}
            assert place.request(f"{API}/categories/{name}", bearer, "PUT", json=body).status_code == 201
            assert {each["status"] for each in attempts(place, made["id"])} <= {200, 500}
            assert receiver.requests
            [(_, headers, text), *_] = receiver.requests
            assert CANARY in text.decode()
            for secret in (made["secret"], rotated["secret"]):
                Webhook(secret).verify(text, headers)


def attempts(place: ServiceFolder, webhook: str) -> list[Any]:
    """What the command shows of attempts, once there are any."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        shown = json.loads(place.run("webhook", "show", webhook, "--json"))
        if shown["last_attempts"]:
            return list(shown["last_attempts"])
        time.sleep(0.05)
    return []


def test_there_is_something_to_search(place: ServiceFolder) -> None:
    found = read_files(place)
    assert place.secrets["client id"].encode() in b"".join(found.values()), "ids stand in the store"
    assert sum(name.startswith("data/reads/") for name in found) in (1, 2), "2 over midnight"
    assert "DEBUG" in log_text(place)
    entries = json.loads(place.run("audit", "--json"))["entries"]
    assert {each["event"] for each in entries} >= {
        "read", "import.committed", "token.created", "token.revoked", "client.created", "client.rotated",
        "issuer.added", "login.succeeded", "login.failed", "webhook.created", "webhook.rotated",
    }  # fmt: skip


def test_no_file_holds_a_secret_in_clear(place: ServiceFolder) -> None:
    wanted = encoded_secrets(place)
    leaks = [
        (name, what) for name, text in read_files(place).items() for what, secret in wanted.items() if secret in text
    ]
    assert not leaks


def test_no_command_shows_a_secret_again(place: ServiceFolder) -> None:
    said = "\n".join(place.shown).encode()
    assert not [what for what, secret in encoded_secrets(place).items() if secret in said]


def test_what_is_logged_tells_nothing_of_anybody(place: ServiceFolder) -> None:
    said = log_text(place)
    private = {
        user[name] for user in demo_users() for name in ("email", "username", "familyName") if len(user[name]) > 5
    }
    assert len(private) > 50
    assert not [each for each in {*private, CANARY} if re.search(rf"\b{re.escape(each)}\b", said)]


def test_files_beside_the_store_are_for_their_owner_alone(place: ServiceFolder) -> None:
    for folder, _, names in os.walk(place.folder / "data"):
        for path in (Path(folder), *(Path(folder) / name for name in names)):
            assert path.stat().st_mode & 0o077 == 0, path
