"""Key sets: what is taken from one, and from where one may come."""

from __future__ import annotations

import json
from typing import Any

import pytest
from joserfc.jwk import ECKey, OKPKey

from chalk_flask.auth.jwt.jwks import InvalidKeySetError, parse_jwk_set, validate_jwks_url
from tests.support.keys import ec_key, key_set, rsa_key

OLD = rsa_key("old")


def as_set(*entries: object) -> bytes:
    return json.dumps({"keys": entries}).encode()


def public(**changed: Any) -> dict[str, Any]:
    return {**OLD.as_dict(private=False), **changed}


def test_a_key_has_one_algorithm_by_its_type() -> None:
    keys = parse_jwk_set(key_set(OLD, ec_key("curve")), strict=True)
    assert [key.kid for key in keys.matching("RS256", None)] == ["old"]
    assert [key.kid for key in keys.matching("ES256", None)] == ["curve"]
    assert keys.matching("ES256", "old") == keys.matching("RS256", "curve") == keys.matching("HS256", None) == []


def test_the_set_that_is_kept_has_public_members_only() -> None:
    keys = parse_jwk_set(as_set(public(use="sig", alg="RS256", x5c=["text"], other=1)), strict=True)
    assert [sorted(each) for each in keys.to_dict()["keys"]] == [["e", "kid", "kty", "n"]]


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (OLD.as_dict(private=True), "key 1 of the set is private"),
        ({**ec_key("curve").as_dict(private=True)}, "key 1 of the set is private"),
        ({"kty": "oct", "k": "c2VjcmV0"}, "key 1 of the set is symmetric"),
        (public(n="AQAB"), "less than 2048"),
        (public(n="!"), "is broken"),
        (public(n=None), "is broken"),
        (public(e="AQAB" * 100), "an exponent of more than 32"),
        ({"kty": "EC", "crv": "P-256", "x": "AQAB", "y": "AQAB"}, "is broken"),
        (public(kid=7), "a kid that is no text"),
        ("text", "is not an object"),
    ],
)
def test_a_key_that_will_not_do_refuses_a_file_and_is_left_out_of_a_published_set(entry: object, why: str) -> None:
    with pytest.raises(InvalidKeySetError, match=why):
        parse_jwk_set(as_set(entry), strict=True)
    assert len(parse_jwk_set(as_set(entry, public()), strict=False).keys) == 1


@pytest.mark.parametrize(
    "entry",
    [
        OKPKey.generate_key("Ed25519", private=False).as_dict(),
        ECKey.generate_key("P-384", private=False).as_dict(),
        public(use="enc"),
        public(alg="PS256"),
        public(alg="ES256"),
        public(key_ops=["encrypt"]),
        {"kty": ["RSA"]},
        {},
    ],
)
def test_keys_for_something_else_are_left_out(entry: dict[str, Any]) -> None:
    assert len(parse_jwk_set(as_set(entry, public()), strict=True).keys) == 1
    with pytest.raises(InvalidKeySetError, match="holds no key for RS256"):
        parse_jwk_set(as_set(entry), strict=True)


@pytest.mark.parametrize("text", [b"", b"-----BEGIN PUBLIC KEY-----", b"[]", b"7", b'{"keys": {}}', b"[" * 100_000])
def test_what_is_no_key_set_is_told_so(text: bytes) -> None:
    with pytest.raises(InvalidKeySetError, match="this is not"):
        parse_jwk_set(text, strict=False)


def test_a_set_has_32_keys_at_most() -> None:
    with pytest.raises(InvalidKeySetError, match="33 keys"):
        parse_jwk_set(as_set(*[public()] * 33), strict=False)


@pytest.mark.parametrize(
    "url",
    ["https://tool.example.org/jwks.json?x=1", "http://127.0.0.1:1/", "http://[::1]/keys", "http://localhost/keys"],
)
def test_keys_come_by_https_or_from_this_machine(url: str) -> None:
    assert validate_jwks_url(url).geturl() == url


@pytest.mark.parametrize(
    "url",
    [
        "http://tool.example.org/jwks.json",
        "http://127.0.0.1.example.org/",
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "https://",
        "https://user:secret@tool.example.org/",
        "https://tool.example.org:port/",
        "https://tool.example.org/#fragment",
        "https://tool.example.org/a b",
        "https://tool.example.org/\r\nX: y",
        "https://[::1/",
        "",
        "https://tool.example.org/" + "x" * 1000,
    ],
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(InvalidKeySetError):
        validate_jwks_url(url)
