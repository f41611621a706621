"""Setup link: it creates the first operator once."""

from __future__ import annotations

import pytest

from tests.support.console.client import PASSWORD, Console, visible_text


@pytest.fixture
def link(console: Console) -> str:
    """Path of a valid setup link."""
    secret = console.services.setup_link.create()
    assert secret is not None
    return f"/setup/{secret}"


def test_link_creates_the_first_operator_and_signs_in(console: Console, link: str) -> None:
    console.submit(link, name="Kim", password=PASSWORD, repeated=PASSWORD)
    [operator] = console.services.administrators.list()
    assert (operator.name, operator.tenant, operator.role) == ("kim", None, "owner")
    assert "operator" in visible_text(console.get("/account").text)


def test_link_works_once(console: Console, link: str) -> None:
    console.submit(link, name="kim", password=PASSWORD, repeated=PASSWORD)
    page = console.get(link, 404)
    assert "invalid, expired or already used" in page.text


def test_unknown_link_is_a_page_with_a_remedy(console: Console) -> None:
    assert "chalk-flask admin create" in console.get("/setup/0123456789abcdef", 404).text


@pytest.mark.parametrize(
    ("name", "password", "repeated", "message"),
    [
        ("kim", PASSWORD, PASSWORD + "x", "The passwords differ."),
        ("k", PASSWORD, PASSWORD, "name"),
        ("kim", "short", "short", "password"),
        ("", PASSWORD, PASSWORD, "Enter a name."),
    ],
)
def test_invalid_values_keep_the_link(
    name: str, password: str, repeated: str, message: str, console: Console, link: str
) -> None:
    page = console.submit(link, name=name, password=password, repeated=repeated, status=422)
    assert message in page.text
    assert console.services.administrators.list() == []
    console.submit(link, name="kim", password=PASSWORD, repeated=PASSWORD)
