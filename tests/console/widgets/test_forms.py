"""Forms of pages: their fields are text, whatever a client sends."""

from __future__ import annotations

import io

import pytest

from tests.support.console.client import Console, find_form


def csrf_token(console: Console) -> str:
    return find_form(console.get("/login").text, "/login").values["csrf_token"]


def test_file_in_place_of_a_text_is_left_out(console: Console) -> None:
    data = {name: (io.BytesIO(b"kim"), "name.txt") for name in ("name", "password")}
    response = console.client.post(
        "/login",
        data={**data, "csrf_token": csrf_token(console)},
        content_type="multipart/form-data",
        headers={"Accept": "text/html"},
    )
    assert response.status_code == 422
    assert "Enter your name." in response.text


@pytest.mark.parametrize("body", ["[1]", "{", "null", '"x"', '{"name": 5, "password": {"a": 1}}'])
def test_json_is_no_form(body: str, console: Console) -> None:
    response = console.client.post(
        "/login",
        data=body,
        content_type="application/json",
        headers={"Accept": "text/html", "X-CSRFToken": csrf_token(console)},
    )
    assert response.status_code == 422
    assert "Enter your name." in response.text
