"""Large bodies: which clients of the API may send a package."""

from __future__ import annotations

import pytest
from flask import Flask

from chalk_flask.api.admin import package_body_limit
from chalk_flask.permissions.restrictions import AccessRestrictions
from chalk_flask.permissions.scopes import ALL, IMPORTS_WRITE
from chalk_flask.server import RequestHead
from tests.conftest import services_of
from tests.support.api_client import create_token
from tests.support.keys import rsa_key, sign_jwt, trust_issuer

PATH = "/api/admin/v1/imports"


def limit_of(app: Flask, credential: str, method: str = "POST", path: str = PATH) -> int | None:
    head = RequestHead(method, path, {"AUTHORIZATION": credential} if credential else {}, "203.0.113.5")
    return package_body_limit(services_of(app))(head)


def test_token_with_the_scope_of_imports_may_send_packages(served: Flask) -> None:
    token = create_token(served, [IMPORTS_WRITE])
    allowed = limit_of(served, f"Bearer {token}")
    assert allowed is not None
    assert allowed > 256 << 20
    assert limit_of(served, f"bearer {token}", path=f"{PATH}/") == allowed


@pytest.mark.parametrize("credential", ["", "Bearer", "Bearer x", "Basic eDp4", "OAuth oauth_consumer_key=x", "\udcff"])
def test_other_credentials_may_not_send_packages(credential: str, served: Flask) -> None:
    assert limit_of(served, credential) == 0
    assert limit_of(served, f"Bearer {create_token(served, ALL)}") == 0


def test_restricted_token_may_not_send_packages(served: Flask) -> None:
    tokens = services_of(served).tokens
    token, _ = tokens.create("import", [IMPORTS_WRITE], restrictions=AccessRestrictions.parse(orgs=["s-1"]))
    assert limit_of(served, f"Bearer {token}") == 0


def test_token_for_single_use_is_not_used_up(served: Flask) -> None:
    services = services_of(served)
    trust_issuer(services.store, scopes={IMPORTS_WRITE}, single_use=True)
    token = sign_jwt(rsa_key("old"), jti="1")
    assert limit_of(served, f"Bearer {token}")
    assert services.authenticator.authenticate(token)[0]
    assert services.authenticator.authenticate(token)[0] is None


@pytest.mark.parametrize(("method", "path"), [("PUT", PATH), ("POST", f"{PATH}/x/approve"), ("POST", "/")])
def test_other_requests_have_the_limit_of_every_request(method: str, path: str, served: Flask) -> None:
    assert limit_of(served, f"Bearer {create_token(served, [IMPORTS_WRITE])}", method, path) is None
