"""Base URLs in references and Link headers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse, create_environ

from chalk_flask.permissions.scopes import (
    ALL,
)
from tests.support.api_client import CHALK, IMS, Consumer, create_token, error_message, items


@pytest.mark.reading("Q-19")
@pytest.mark.parametrize("host", ['x"y', "a b", "<a>", "a,b", "é", "", "a/b", "a@b", "[::1", "a:b"])
def test_invalid_host_header_is_rejected(consumer: Consumer, host: str) -> None:
    assert "Host" in error_message(consumer.get("/users", {"Host": host}), 400, "invalid_data", "invalid data")


@pytest.mark.parametrize(
    ("settings", "request_", "base_url"),
    [
        ({}, {}, "http://localhost"),
        ({}, {"base_url": "https://roster.example:8443"}, "https://roster.example:8443"),
        ({}, {"base_url": "https://roster.example:443"}, "https://roster.example"),
        ({}, {"base_url": "http://[2001:db8::1]:80"}, "http://[2001:db8::1]"),
        ({}, {"base_url": "http://sis.example/aeries"}, "http://sis.example/aeries"),
        ({"public_url": "https://out.example/x"}, {"base_url": "http://in.example/y"}, "https://out.example/x"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "/sis"])
def test_urls_start_with_public_url_or_the_request_url(
    serve: Callable[..., Flask], settings: dict[str, str], request_: dict[str, str], base_url: str, prefix: str
) -> None:
    app = serve(**settings)
    client: FlaskClient = app.test_client()
    headers = {"Authorization": f"Bearer {create_token(app, ALL)}"}
    for root in (CHALK, IMS):
        response: TestResponse = client.get(f"{root}{prefix}/users?limit=1", headers=headers, **request_)
        assert items(response)[0]["orgs"][0]["href"] == f"{base_url}{root}/orgs/s-1"
        assert response.headers["Link"].startswith(f"<{base_url}{root}{prefix}/users?limit=1&offset=0>;")


@pytest.mark.reading("Q-19")
def test_request_without_host_gets_the_server_name(served: Flask) -> None:
    environ = create_environ(f"{IMS}/users/u-1", headers={"Authorization": f"Bearer {create_token(served, ALL)}"})
    del environ["HTTP_HOST"]
    environ |= {"SERVER_NAME": "roster.internal", "SERVER_PORT": "8080"}
    body = b"".join(served(environ, lambda status, _headers, _error=None: lambda _data: status))
    assert b'"href":"http://roster.internal:8080/ims/oneroster/v1p1/orgs/s-1"' in body
