"""Signed parts of a request."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from chalk_flask.api.auth.oauth1_request import has_oauth1_header, parse_signed_request
from chalk_flask.auth.oauth1.verifier import MalformedRequestError

PUBLIC_URL = "https://roster.example.org"


def request(path: str = "/x", target: str | None = None, **options: Any) -> Request:
    options.setdefault("base_url", "http://host:8080/")
    options.setdefault("headers", {"Authorization": "OAuth oauth_nonce=1"})
    environ = EnvironBuilder(path, **options).get_environ()
    if target is not None:
        environ["REQUEST_URI"] = environ["RAW_URI"] = target
    return Request(environ)


@pytest.mark.parametrize(
    ("path", "target", "signed_path"),
    [
        ("/a/b", "/a%2Fb?limit=1", "/a%2Fb"),
        ("/a b", "/a%20b", "/a%20b"),
        ("/a", "http://other.example.org/a%2f?x", "/a%2f"),
        ("/a b", "", "/a%20b"),
        ("/", "/", "/"),
    ],
)
def test_path_is_signed_as_it_was_sent(path: str, target: str, signed_path: str) -> None:
    assert parse_signed_request(request(path, target), PUBLIC_URL).uri == PUBLIC_URL + signed_path


def test_path_of_a_mounted_application_follows_the_public_url() -> None:
    mounted = request("/a/b", "/the%20mount/a%2Fb", base_url="http://host/the mount/")
    assert (
        parse_signed_request(mounted, "https://roster.example.org/mount").uri
        == "https://roster.example.org/mount/a%2Fb"
    )


@pytest.mark.reading("O-01")
@pytest.mark.parametrize("host", ["other.example.org", "a/b", ""])
def test_host_header_is_not_signed(host: str) -> None:
    sent = request(headers={"Authorization": "OAuth a=1", "Host": host})
    assert parse_signed_request(sent, PUBLIC_URL).uri == f"{PUBLIC_URL}/x"


def test_names_and_values_are_decoded_to_bytes() -> None:
    encoded = request(query_string="a=1%202&b=1+2&%C3%B6=%ff&c&d=&a=1%2B2&=e")
    assert parse_signed_request(encoded, "").parameters == [
        (b"a", b"1 2"),
        (b"b", b"1 2"),
        ("ö".encode(), b"\xff"),
        (b"c", b""),
        (b"d", b""),
        (b"a", b"1+2"),
        (b"", b"e"),
    ]


def test_form_is_signed_and_another_body_is_not() -> None:
    body: dict[str, Any] = {"method": "POST", "query_string": "a=1", "data": b"b=2"}
    form = request(content_type="application/x-www-form-urlencoded; charset=utf-8", **body)
    assert parse_signed_request(form, "").parameters == [(b"a", b"1"), (b"b", b"2")]
    assert form.get_data() == b"b=2"
    other = parse_signed_request(request(content_type="application/json", **body), "")
    assert (other.parameters, other.read_body()) == ([(b"a", b"1")], b"b=2")


def test_too_many_parameters_are_malformed() -> None:
    form = "application/x-www-form-urlencoded"
    for options in ({"query_string": "a&" * 1001}, {"data": b"a&" * 1001, "content_type": form}):
        with pytest.raises(MalformedRequestError, match="1000 parameters"):
            parse_signed_request(request(method="POST", **options), "")
    with pytest.raises(MalformedRequestError, match="65536 bytes"):
        parse_signed_request(request(method="POST", data=b"a" * 65537, content_type=form), "")


@pytest.mark.parametrize(
    ("header", "signed"),
    [
        ("OAuth a=1", True),
        ("oauth", True),
        ("OAUTH\ta", True),
        ("OAuth2 a", False),
        ("Bearer OAuth", False),
        ("", False),
    ],
)
def test_scheme_determines_if_a_request_is_signed(header: str, signed: bool) -> None:
    assert has_oauth1_header({"HTTP_AUTHORIZATION": header}) is signed


def test_request_without_a_header_is_not_signed() -> None:
    assert not has_oauth1_header({})
