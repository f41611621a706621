"""Page `/settings/clients`: create, show the secret once, rotate and revoke."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from flask import Flask
from markupsafe import escape

from chalk_flask import create_app
from chalk_flask.auth.clients import OAuthClient
from chalk_flask.permissions.scopes import DEFAULT, ROSTER, ROSTER_CORE
from tests.conftest import services_of
from tests.support.console.client import Console, fill_console_store, links_of, visible_text

LIST, NEW = "/settings/clients", "/settings/clients/new"


@pytest.fixture(scope="module")
def client_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """Application with a folder for the key that encrypts secrets of OAuth 1.0a."""
    app = create_app(storage="memory:", data=str(tmp_path_factory.mktemp("data")))
    yield app
    services_of(app).access_log.close()
    services_of(app).store.close()


@pytest.fixture
def console_app(client_app: Flask) -> Flask:
    fill_console_store(client_app)
    return client_app


@pytest.fixture
def owner(console: Console) -> Console:
    console.sign_in("owner")
    return console


def create(console: Console, **fields: object) -> tuple[str | None, OAuthClient]:
    """Create a client in the browser. Return its secret from the page, and its stored form."""
    page = console.submit(NEW, action=LIST, **{"label": "Learning platform", **fields})  # type: ignore[arg-type]  # fields
    newest = max(console.services.clients.list("default"), key=lambda client: client.created)
    return secret_in(page.text), newest


def secret_in(text: str) -> str | None:
    found = re.search(r'id="secret-value"[^>]*>([^<]+)<', text)
    return html.unescape(found[1]) if found else None


def token_status(console: Console, client: OAuthClient, secret: str) -> int:
    data = {"grant_type": "client_credentials", "scope": " ".join(sorted(client.scopes))}
    return console.app.test_client().post("/oauth/token", data=data, auth=(client.id, secret)).status_code


def test_new_client_gets_a_token_with_the_secret_of_the_page(owner: Console) -> None:
    secret, client = create(owner)
    assert secret is not None
    assert client.scopes == DEFAULT
    assert token_status(owner, client, secret) == 200
    page = owner.get(f"{LIST}/{client.id}").text
    assert secret_in(page) is None
    assert f"{LIST}/{client.id}" in links_of(owner.get(LIST).text)
    owner.submit(f"{LIST}/{client.id}", action=f"{LIST}/{client.id}/revoke")
    assert token_status(owner, client, secret) == 401
    assert client.id not in owner.get(LIST).text
    assert client.id in owner.get(LIST, show="all").text


def test_rotated_secret_is_shown_once_and_the_former_one_ends(owner: Console) -> None:
    former, client = create(owner)
    page = owner.submit(f"{LIST}/{client.id}", action=f"{LIST}/{client.id}/rotate", overlap="0")
    secret = secret_in(page.text)
    assert former is not None
    assert secret is not None
    assert token_status(owner, client, secret) == 200
    assert token_status(owner, client, former) == 401
    page = owner.submit(f"{LIST}/{client.id}", action=f"{LIST}/{client.id}/rotate", overlap="24")
    assert "Former secret works until" in visible_text(page.text)
    assert token_status(owner, client, secret) == 200


def test_client_with_a_key_has_no_secret(owner: Console) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    secret, client = create(owner, method="key", public_key=public, scopes=["roster"])
    assert secret is None
    assert client.jwks is not None
    assert client.scopes == {ROSTER, ROSTER_CORE}
    page = owner.get(f"{LIST}/{client.id}").text
    assert "/rotate" not in page
    assert "until the operator sets public_url" in visible_text(page)


def test_client_that_signs_requests_keeps_its_secret_encrypted(owner: Console) -> None:
    secret, client = create(owner, method="oauth1")
    assert secret is not None
    assert client.uses_oauth1


def test_invalid_keys_are_explained_and_not_repeated(owner: Console) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    for text, message in ((private, "This is a private key"), ("", "Invalid"), ("nonsense", "Invalid")):
        page = owner.submit(NEW, action=LIST, status=422, label="App", method="key", public_key=text)
        assert message.lower() in visible_text(page.text).lower()
        assert not owner.services.clients.list()


def test_restrictions_of_the_form_are_stored(owner: Console) -> None:
    _, client = create(owner, grades=["05"], redacted=["email"])
    assert client.restrictions.to_dict() == {"grades": ["05"], "redacted": ["email"]}
    assert "Only students of the grades" in visible_text(owner.get(f"{LIST}/{client.id}").text)


def test_grade_without_students_is_a_warning(owner: Console) -> None:
    for grades, warned in (
        (["05", "09"], ["the grade 05, so it shows"]),
        (["10"], []),
        (["06", "05", "09"], ["the grades 05, 06, so they show"]),
    ):
        page = visible_text(owner.submit(NEW, action=LIST, label="Learning platform", grades=grades).text)
        assert re.findall(r"No active student has (.*?) no student yet\.", page) == warned


def test_client_of_another_tenant_is_not_found(owner: Console) -> None:
    _, client = owner.services.clients.create("West app", DEFAULT, "west")
    assert "West app" not in owner.get(LIST).text
    owner.get(f"{LIST}/{client.id}", 404)


def test_viewer_sees_no_buttons_and_labels_are_escaped(console: Console) -> None:
    label = '"><script>alert(1)</script>'
    _, client = console.services.clients.create(label, DEFAULT)
    console.sign_in("viewer")
    for path in (LIST, f"{LIST}/{client.id}"):
        page = console.get(path).text
        assert label not in page
        assert str(escape(label)) in page
        assert "/revoke" not in page
        assert NEW not in page
