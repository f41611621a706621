"""JWK Sets: which keys are accepted, and which URLs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from joserfc.jwk import ECKey, OKPKey

from chalk_flask.auth.jwt.jwks import InvalidKeySetError, parse_jwk_set, validate_jwks_url
from tests.support.keys import ec_key, make_jwks, rsa_key

OLD = rsa_key("old")


def as_jwks(*entries: object) -> bytes:
    return json.dumps({"keys": entries}).encode()


def public_key(**changes: Any) -> dict[str, Any]:
    """Return the public part of the key `old` with these changes."""
    return {**OLD.as_dict(private=False), **changes}


def test_keys_are_matched_by_algorithm_and_id() -> None:
    keys = parse_jwk_set(make_jwks(OLD, ec_key("curve")), strict=True)
    assert [key.kid for key in keys.matching("RS256", None)] == ["old"]
    assert [key.kid for key in keys.matching("ES256", None)] == ["curve"]
    assert keys.matching("ES256", "old") == keys.matching("RS256", "curve") == keys.matching("HS256", None) == []


def test_stored_set_has_public_members_only() -> None:
    keys = parse_jwk_set(as_jwks(public_key(use="sig", alg="RS256", x5c=["text"], other=1)), strict=True)
    assert [sorted(key) for key in keys.to_dict()["keys"]] == [["e", "kid", "kty", "n"]]


@pytest.mark.reading("J-06")
@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (OLD.as_dict(private=True), "key 1 of the set is private"),
        (ec_key("curve").as_dict(private=True), "key 1 of the set is private"),
        ({"kty": "oct", "k": "c2VjcmV0"}, "key 1 of the set is symmetric"),
        (public_key(n="AQAB"), "RSA must have 2048 to 8192 bits"),
        (public_key(n="!"), "is broken"),
        (public_key(n=None), "is broken"),
        (public_key(e="AQAB" * 100), "an exponent of at most 32 bits"),
        ({"kty": "EC", "crv": "P-256", "x": "AQAB", "y": "AQAB"}, "is broken"),
        (public_key(kid=7), "kid must be text"),
        ("text", "is not an object"),
    ],
)
def test_bad_key_is_an_error_in_a_file_and_skipped_in_a_published_set(entry: object, message: str) -> None:
    with pytest.raises(InvalidKeySetError, match=message):
        parse_jwk_set(as_jwks(entry), strict=True)
    assert len(parse_jwk_set(as_jwks(entry, public_key()), strict=False).keys) == 1


@pytest.mark.reading("J-06")
@pytest.mark.parametrize(
    "entry",
    [
        OKPKey.generate_key("Ed25519", private=False).as_dict(),
        ECKey.generate_key("P-384", private=False).as_dict(),
        public_key(use="enc"),
        public_key(alg="PS256"),
        public_key(key_ops=["encrypt"]),
        {"kty": ["RSA"]},
        {},
    ],
)
def test_key_of_another_type_or_use_is_skipped(entry: dict[str, Any]) -> None:
    assert len(parse_jwk_set(as_jwks(entry, public_key()), strict=True).keys) == 1
    with pytest.raises(InvalidKeySetError, match="contains no key for RS256"):
        parse_jwk_set(as_jwks(entry), strict=True)


@pytest.mark.parametrize("text", [b"", b"-----BEGIN PUBLIC KEY-----", b"[]", b'{"keys": {}}', b"[" * 100_000])
def test_text_that_is_not_a_key_set_is_rejected(text: bytes) -> None:
    with pytest.raises(InvalidKeySetError, match="this is not"):
        parse_jwk_set(text, strict=False)


def test_set_has_at_most_32_keys() -> None:
    with pytest.raises(InvalidKeySetError, match="33 keys"):
        parse_jwk_set(as_jwks(*[public_key()] * 33), strict=False)


@pytest.mark.parametrize(
    "url",
    ["https://tool.example.org/jwks.json?x=1", "http://127.0.0.1:1/", "http://[::1]/keys", "http://localhost/keys"],
)
def test_url_is_https_or_of_this_machine(url: str) -> None:
    assert validate_jwks_url(url).geturl() == url


@pytest.mark.parametrize(
    "url",
    [
        "http://tool.example.org/jwks.json",
        "http://127.0.0.1.example.org/",
        "file:///etc/passwd",
        "https://",
        "https://user:secret@tool.example.org/",
        "https://tool.example.org:port/",
        "https://tool.example.org/#fragment",
        "https://tool.example.org/\r\nX: y",
        "https://[::1/",
        "",
        "https://tool.example.org/" + "x" * 1000,
    ],
)
def test_other_url_is_rejected(url: str) -> None:
    with pytest.raises(InvalidKeySetError, match="invalid URL") as rejection:
        validate_jwks_url(url)
    assert "secret" not in str(rejection.value)
