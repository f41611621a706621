"""Size of uploads: who may send a package."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from chalk_flask.admins.roles import Role
from chalk_flask.console.upload_limit import upload_limit
from chalk_flask.server import RequestHead
from tests.support.console.client import Console


def limit_of(console: Console, method: str = "POST", path: str = "/imports/upload", cookie: str = "") -> int | None:
    headers: Mapping[str, str] = {"COOKIE": cookie} if cookie else {}
    return upload_limit(console.services)(RequestHead(method, path, headers, "203.0.113.5"))


def cookie_of(console: Console) -> str:
    cookie = console.client.get_cookie("chalk-session")
    assert cookie
    return f"theme=dark; chalk-session={cookie.value}"


@pytest.mark.parametrize(("role", "can_import"), [("viewer", False), ("editor", True), ("owner", True)])
def test_administrators_who_may_import_may_send_packages(role: Role, can_import: bool, console: Console) -> None:
    console.sign_in(role)
    allowed = console.services.jobs.max_body_bytes
    assert limit_of(console, cookie=cookie_of(console)) == (allowed if can_import else 0)


def test_visitors_may_not_send_packages(console: Console) -> None:
    assert limit_of(console) == 0
    assert limit_of(console, cookie="chalk-session=" + "0" * 32) == 0
    console.sign_in()
    cookie = cookie_of(console)
    secret = cookie.rpartition("=")[2]
    session = console.services.sessions.find(secret)
    assert session
    console.services.sessions.end(session.id_hash)
    assert limit_of(console, cookie=cookie) == 0


@pytest.mark.parametrize(("method", "path"), [("PUT", "/imports/upload"), ("POST", "/login"), ("POST", "/imports")])
def test_other_requests_have_the_limit_of_all(method: str, path: str, console: Console) -> None:
    console.sign_in()
    assert limit_of(console, method, path, cookie_of(console)) is None
