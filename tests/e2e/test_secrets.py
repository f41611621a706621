"""Secrets and personal data: no file contains a secret in clear, and no log contains personal data.

A service runs with the log level debug. The tests create credentials of every kind, use them correctly and incorrectly,
and then search all files that the service wrote.
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
from tests.e2e.services import (
    API,
    CANARY,
    GRANT,
    ServiceFolder,
    demo_users,
    encoded_secrets,
    log_text,
    read_files,
)
from tests.support.keys import AUDIENCE, ISSUER, make_jwks, rsa_key, sign_jwt
from tests.support.receiver import respond, run_receiver
from tests.support.server_process import free_port

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> ServiceFolder:
    """Stopped service after all requests, with everything that it wrote."""
    service = ServiceFolder(tmp_path_factory.mktemp("secrets"), "sqlite:///chalk.db")
    (service.folder / "tmp").mkdir()
    service.run("import", DEMO)
    create_credentials(service)
    with serve(service):
        send_valid_requests(service)
        send_invalid_requests(service)
        send_invalid_token_requests(service)
        send_malformed_http(service)
        deliver_webhooks(service)
    for command in ("webhook list", "webhook list --json", *(f"webhook show {key}" for key in service.webhooks)):
        # The operator may see the URLs of webhooks, which contain CANARY.
        service.shown.append(service.run(*command.split()).replace(CANARY, ""))
    for command in ("token list", "client list --json", "issuer list --json", "audit", "config show --json", "check"):
        service.shown.append(service.run(*command.split()))
    return service


def create_credentials(service: ServiceFolder) -> None:
    """Create one credential of each kind, and remember the secrets that are shown once."""
    service.secrets["token"] = service.create("token", "create", "--label", "reader", "--scope", "all")["token"]
    revoked = service.create("token", "create", "--label", "revoked")
    service.secrets["revoked token"] = revoked["token"]
    service.run("token", "revoke", revoked["id"])
    for name, options in {"client": (), "signing client": ("--oauth1",)}.items():
        client = service.create("client", "create", "--label", name, *options)
        service.secrets[name] = client["client_secret"]
        service.secrets[f"{name} id"] = client["client_id"]
    rotated = service.create("client", "rotate", service.secrets["client id"])
    service.secrets["former secret"], service.secrets["client"] = service.secrets["client"], rotated["client_secret"]
    key = rsa_key("secrets")
    (service.folder / "tmp" / "jwks.json").write_bytes(make_jwks(key))
    service.run(
        "issuer", "add", "--iss", ISSUER, "--aud", AUDIENCE, "--jwks-file", service.folder / "tmp" / "jwks.json"
    )
    keyed = service.create("client", "create", "--label", "keyed", "--jwks-file", service.folder / "tmp" / "jwks.json")
    service.secrets["keyed id"] = keyed["client_id"]
    service.secrets["JWT"] = sign_jwt(key, sub=CANARY)


@contextmanager
def serve(service: ServiceFolder) -> Iterator[None]:
    """Run `chalk-flask serve`, with its output in two files of the folder."""
    with (service.folder / "out.txt").open("wb") as out, (service.folder / "err.txt").open("wb") as err:
        port = str(free_port())
        command = [sys.executable, "-m", "chalk_flask", "serve", "--port", port]
        command += ["--public-url", f"http://127.0.0.1:{port}"]
        with subprocess.Popen(command, cwd=service.folder, env=service.environ, stdout=out, stderr=err) as process:
            try:
                service.url = wait_for_url(service.folder / "err.txt")
                yield
                process.terminate()
                assert process.wait(90) == 0
            finally:
                process.kill()


def wait_for_url(log: Path) -> str:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if match := re.search(r"Listening on (http://\S+)", log.read_text(encoding="utf-8")):
            return match[1]
        time.sleep(0.05)
    raise AssertionError("the service did not listen")


def send_valid_requests(service: ServiceFolder) -> None:
    """Authenticate with each method, and send requests that contain personal data."""
    user = demo_users()[0]
    token = service.request(
        "/oauth/token",
        method="POST",
        data=GRANT,
        auth=(service.secrets["client id"], service.secrets["client"]),
    ).json()["access_token"]
    form = {
        **GRANT,
        "client_id": service.secrets["signing client id"],
        "client_secret": service.secrets["signing client"],
    }
    other = service.request("/oauth/token", method="POST", data=form).json()["access_token"]
    service.secrets |= {"access token": token, "access token by form": other}
    assertion = sign_jwt(
        rsa_key("secrets"), iss=service.secrets["keyed id"], sub=service.secrets["keyed id"], jti="1",
        aud=f"{service.url}/oauth/token",
    )  # fmt: skip
    service.secrets["assertion"] = assertion
    form = {**GRANT, "client_assertion_type": JWT_BEARER, "client_assertion": assertion}
    service.secrets["access token by key"] = service.request("/oauth/token", method="POST", data=form).json()[
        "access_token"
    ]
    for name in ("token", "JWT", "access token", "access token by form", "access token by key"):
        bearer = f"Bearer {service.secrets[name]}"
        for query in (f"filter=email='{user['email']}'", f"filter=familyName='{user['familyName']}'", "fields=email"):
            assert service.request(f"{API}/users?{query}", bearer).status_code == 200, name
        assert service.request(f"{API}/users/{user['sourcedId']}", bearer).json()["user"]["email"] == user["email"]
        assert service.request(f"{API}/users?filter=familyName~'{CANARY}'&sort=email", bearer).status_code == 200
        assert service.request(f"{API}/users/{CANARY}", bearer).status_code == 404
    session = OAuth1Session(service.secrets["signing client id"], client_secret=service.secrets["signing client"])
    with session:
        assert session.get(f"{service.url}{API}/users?filter=familyName~'{CANARY}'", timeout=30).status_code == 200


def send_invalid_requests(service: ServiceFolder) -> None:
    """Send secrets in headers, URLs and bodies where they do not belong."""
    for name, secret in service.secrets.items():
        if name.endswith(" id"):
            continue
        basic = base64.b64encode(f"{service.secrets['client id']}:{secret}".encode()).decode()
        for authorization in (
            secret,
            f"Basic {basic}",
            f"Token {secret}",
            f"OAuth {secret}",
            f"Bearer {secret}x",
            basic,
        ):
            assert service.request(f"{API}/users", authorization).status_code in (400, 401), name
        for path in (
            f"/users?access_token={secret}",
            f"/users/{secret}",
            f"/users?filter=email='{secret}'",
            f"/{secret}",
        ):
            assert service.request(API + path).status_code in (401, 404), name
            assert service.request(API + path, f"Bearer {service.secrets['token']}").status_code in (200, 400, 404), (
                name
            )
        for method in ("POST", "PUT", "DELETE"):
            body = {"access_token": secret, "lineItem": {"title": CANARY}}
            assert (
                service.request(f"{API}/lineItems/{secret}", f"Bearer {secret}x", method, json=body).status_code >= 400
            )
    assert service.request(f"{API}/users", f"Bearer {service.secrets['revoked token']}").status_code == 401
    with OAuth1Session(service.secrets["signing client id"], client_secret=service.secrets["client"]) as session:
        assert session.get(f"{service.url}{API}/users", timeout=30).status_code == 401


def send_invalid_token_requests(service: ServiceFolder) -> None:
    """Send secrets as ids, in the URL, in JSON, as scopes, of another client, and an expired one."""
    client, secret = service.secrets["client id"], service.secrets["client"]
    requests: list[dict[str, Any]] = [
        {"auth": (secret, client), "data": GRANT},
        {"auth": (client, service.secrets["signing client"]), "data": GRANT},
        {"auth": (client, service.secrets["former secret"] + "x"), "data": GRANT},
        {"params": {**GRANT, "client_id": client, "client_secret": secret}},
        {"json": {**GRANT, "client_id": client, "client_secret": secret}},
        {"auth": (client, secret), "data": {"grant_type": secret}},
        {"auth": (client, secret), "data": {**GRANT, "scope": secret}},
        {"data": {**GRANT, "client_id": client, "client_secret": [secret, secret]}},
        {"data": {**GRANT, "client_assertion_type": JWT_BEARER, "client_assertion": service.secrets["JWT"]}},
        {
            "data": {
                **GRANT,
                "client_assertion_type": JWT_BEARER,
                "client_assertion": service.secrets["assertion"],
            }
        },
        {"data": f"{secret}&&=%%{secret}".encode()},
    ]
    for options in requests:
        response = service.request("/oauth/token", method="POST", **options)
        assert response.status_code in (400, 401), options
        assert secret not in response.text


def send_malformed_http(service: ServiceFolder) -> None:
    """Send text with a secret that is not HTTP."""
    port, token = int(service.url.rpartition(":")[2]), service.secrets["token"]
    for text in (f"GET /{token} HTTP/9.9\r\n\r\n", f"{token}\r\n\r\n", f"GET / HTTP/1.1\r\n{token}\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(text.encode())
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass


def deliver_webhooks(service: ServiceFolder) -> None:
    """Deliver names to a receiver that accepts them and to one that rejects them, with a secret in each URL."""
    responses = {"accepting": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "rejecting": b"HTTP/1.1 500 No\r\n\r\n"}
    for name, response in responses.items():
        with run_receiver(respond(response, close=name == "rejecting")) as receiver:
            url = receiver.url.replace("hush", CANARY)
            webhook = service.create("webhook", "create", "--url", url, "--full", "--label", name)
            service.webhooks.append(webhook["id"])
            rotated = service.create("webhook", "rotate", webhook["id"])
            service.secrets |= {f"{name} former webhook": webhook["secret"], f"{name} webhook": rotated["secret"]}
            bearer = f"Bearer {service.secrets['token']}"
            body = {"category": {"title": f"{demo_users()[0]['familyName']} {CANARY}"}}
            assert service.request(f"{API}/categories/{name}", bearer, "PUT", json=body).status_code == 201
            assert {each["status"] for each in wait_for_attempts(service, webhook["id"])} <= {200, 500}
            assert receiver.requests
            [(_, headers, text), *_] = receiver.requests
            assert CANARY in text.decode()
            for secret in (webhook["secret"], rotated["secret"]):
                Webhook(secret).verify(text, headers)


def wait_for_attempts(service: ServiceFolder, webhook: str) -> list[Any]:
    """Return the delivery attempts that the command shows, as soon as there are any."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        shown = json.loads(service.run("webhook", "show", webhook, "--json"))
        if shown["last_attempts"]:
            return list(shown["last_attempts"])
        time.sleep(0.05)
    return []


def test_files_contain_what_the_other_tests_search(service: ServiceFolder) -> None:
    files = read_files(service)
    assert service.secrets["client id"].encode() in b"".join(files.values()), "the store contains ids"
    assert sum(name.startswith("data/reads/") for name in files) in (1, 2), "2 around midnight"
    assert "DEBUG" in log_text(service)
    entries = json.loads(service.run("audit", "--json"))["entries"]
    assert {each["event"] for each in entries} >= {
        "read", "import.committed", "token.created", "token.revoked", "client.created", "client.rotated",
        "issuer.added", "login.succeeded", "login.failed", "webhook.created", "webhook.rotated",
    }  # fmt: skip


def test_files_contain_no_secret_in_clear(service: ServiceFolder) -> None:
    secrets = encoded_secrets(service)
    leaks = [
        (path, name) for path, text in read_files(service).items() for name, secret in secrets.items() if secret in text
    ]
    assert not leaks


def test_commands_show_no_secret_again(service: ServiceFolder) -> None:
    output = "\n".join(service.shown).encode()
    assert not [name for name, secret in encoded_secrets(service).items() if secret in output]


def test_log_contains_no_personal_data(service: ServiceFolder) -> None:
    log = log_text(service)
    private = {
        user[name] for user in demo_users() for name in ("email", "username", "familyName") if len(user[name]) > 5
    }
    assert len(private) > 50
    assert not [each for each in {*private, CANARY} if re.search(rf"\b{re.escape(each)}\b", log)]


def test_data_folder_is_private(service: ServiceFolder) -> None:
    for folder, _, names in os.walk(service.folder / "data"):
        for path in (Path(folder), *(Path(folder) / name for name in names)):
            assert path.stat().st_mode & 0o077 == 0, path
